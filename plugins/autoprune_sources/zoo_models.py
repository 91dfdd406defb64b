"""Models that timm and torchvision know by name."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from autoprune import DataError
from autoprune.plugin import Data, ModelSource, SourceContext
from autoprune_sources._model_options import Strict, WeightsFile

if TYPE_CHECKING:
    from torch import nn


class _ZooModel(ModelSource):
    """A model of a package, by its name there. Nothing is downloaded."""

    downloads: ClassVar[tuple[str, ...]]
    """Arguments by which the package would fetch weights by itself."""

    model: str = Field(description="Its name in the package: resnet18.")
    args: dict[str, Any] = Field(default={}, description="Other arguments: {num_classes: 10}.")
    weights: WeightsFile = None
    strict: Strict = True

    @abstractmethod
    def made(self) -> nn.Module:
        """The model with random weights.

        Raises:
            DataError: The package is missing, or has no such model.
        """

    @property
    def runs_named_code(self) -> bool:
        """Not it: the package knows the models, and arguments are data."""
        return False

    def build(self, ctx: SourceContext) -> nn.Module:
        """The model with random weights of the seed, on the CPU."""
        import torch

        if given := [name for name in self.downloads if self.args.get(name)]:
            raise DataError(
                f"args: {given[0]} would download; fetch the weights yourself, and name their file: {{weights: …}}"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(ctx.seed)
            return self.made().cpu()

    def load(self, data: Data, ctx: SourceContext) -> nn.Module:  # noqa: ARG002 - the weights are in a file
        """The same with the weights of the file."""
        from autoprune_sources._weights import with_weights

        return with_weights(self.build(ctx), self.weights, ctx, strict=self.strict)


class Timm(_ZooModel):
    """A model of timm: ``{use: timm, model: resnet18, weights: resnet18.safetensors, args: {num_classes: 10}}``.

    Needs the extra ``autoprune[timm]``.
    """

    name = "timm"
    downloads = ("pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay")

    def made(self) -> nn.Module:
        """What ``timm.create_model`` makes."""
        from autoprune.toolkit.files import near
        from autoprune.toolkit.packages import optional

        timm = optional("timm")
        if ":" in self.model or not timm.is_model(self.model):
            raise DataError(f"timm has no model {self.model!r}{near(self.model, timm.list_models())}")
        network: nn.Module = _called(timm.create_model, self.model, {**self.args, "pretrained": False})
        return network


class Torchvision(_ZooModel):
    """A model of torchvision: ``{use: torchvision, model: resnet18, weights: w.pt, args: {num_classes: 10}}``.

    Needs the extra ``autoprune[torchvision]``.
    """

    name = "torchvision"
    downloads = ("weights", "weights_backbone")

    def made(self) -> nn.Module:
        """What ``torchvision.models.get_model`` makes."""
        import inspect

        from autoprune.toolkit.files import near
        from autoprune.toolkit.packages import optional

        models = optional("torchvision").models
        known = models.list_models()
        if self.model not in known:
            raise DataError(f"torchvision has no model {self.model!r}{near(self.model, known)}")
        taken = inspect.signature(models.get_model_builder(self.model)).parameters
        nothing = {name: None for name in self.downloads if name in taken}  # a backbone would be fetched if not told
        network: nn.Module = _called(models.get_model, self.model, {**self.args, **nothing})
        return network


def _called(make: Any, model: str, args: dict[str, Any]) -> Any:
    try:
        return make(model, **args)
    except Exception as error:  # whatever the package raises of arguments that do not fit
        cause = str(error).strip().partition("\n")[0][:300]
        raise DataError(f"model {model!r} cannot be made of these args: {type(error).__name__}: {cause}") from error
