"""A model of the user's own, or of any installed package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from autoprune import DataError
from autoprune.plugin import Data, ModelSource, SourceContext
from autoprune_sources._options import Target

if TYPE_CHECKING:
    from torch import nn

_WEIGHTS = (".safetensors", ".pt", ".pth")


def _weights(path: Path) -> Path:
    if path.suffix not in _WEIGHTS:
        raise ValueError(f"weights end in {', '.join(_WEIGHTS)}")
    return path


class Factory(ModelSource):
    """The model that a function or class makes: ``{use: factory, target: "mymodels:resnet20"}``.

    The module is looked up in the spec's own folder first, then among the installed ones. It runs as code, so name
    only what you trust; weights never run: they are read from safetensors, or by PyTorch's ``weights_only`` loading.
    """

    name = "factory"

    target: Target = Field(description="module:callable that makes the model.")
    args: dict[str, Any] = Field(default={}, description="Keyword arguments of the callable.")
    weights: Annotated[Path, AfterValidator(_weights)] | None = Field(
        default=None, description=".safetensors, .pt or .pth file; as the callable made them if left out."
    )
    strict: bool = Field(default=True, description="Refuse weights whose names are not exactly the model's.")

    def build(self, ctx: SourceContext) -> nn.Module:
        """What the callable makes, on the CPU; its random weights come from the seed."""
        import torch
        from torch import nn

        from autoprune.toolkit.importing import importable, look_up, told

        with importable(ctx.folder), torch.random.fork_rng(devices=[]):
            make = look_up(self.target, ctx.folder)
            if isinstance(make, nn.Module):
                raise DataError(f"target {self.target!r} is a model already; name the function or class that makes it")
            torch.manual_seed(ctx.seed)  # here, because only the first import may draw numbers
            try:
                network = make(**self.args)
            except Exception as error:  # whatever the user's code raises
                raise DataError(f"target {self.target!r}: calling it failed: {told(error, ctx.folder)}") from error
        if not isinstance(network, nn.Module):
            raise DataError(f"target {self.target!r} made {type(network).__name__}, not a torch.nn.Module")
        return network.cpu()

    def load(self, data: Data, ctx: SourceContext) -> nn.Module:  # noqa: ARG002 - the weights are in a file
        """The same with the weights of the file."""
        from autoprune.toolkit.files import existing
        from autoprune_sources._weights import fit, read_weights

        network = self.build(ctx)
        if self.weights is not None:
            file = existing(self.weights, ctx)
            fit(network, read_weights(file), file=file, strict=self.strict)
        return network
