"""A model of the user's own, or of any installed package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from autoprune import DataError
from autoprune.plugin import Data, ModelSource, SourceContext
from autoprune_sources._model_options import Strict, WeightsFile
from autoprune_sources._options import Target

if TYPE_CHECKING:
    from torch import nn


class Factory(ModelSource):
    """The model that a function or class makes: ``{use: factory, target: "mymodels:resnet20"}``.

    The module is looked up in the spec's own folder first, then among the installed ones. It runs as code, so name
    only what you trust; weights never run: they are read from safetensors, or by PyTorch's ``weights_only`` loading.
    """

    name = "factory"

    target: Target = Field(description="module:callable that makes the model.")
    args: dict[str, Any] = Field(
        default={},
        description="Keyword arguments of the callable; a path that exists beside the spec is handed over in full.",
    )
    weights: WeightsFile = None
    strict: Strict = True

    def build(self, ctx: SourceContext) -> nn.Module:
        """What the callable makes, on the CPU; its random weights come from the seed."""
        import torch
        from torch import nn

        from autoprune.toolkit.files import found_paths
        from autoprune.toolkit.importing import importable, look_up, told

        with importable(ctx.folder), torch.random.fork_rng(devices=[]):
            make = look_up(self.target, ctx.folder)
            if isinstance(make, nn.Module):
                raise DataError(f"target {self.target!r} is a model already; name the function or class that makes it")
            torch.manual_seed(ctx.seed)  # here, because only the first import may draw numbers
            try:
                network = make(**found_paths(self.args, ctx.folder))
            except Exception as error:  # whatever the user's code raises
                raise DataError(f"target {self.target!r}: calling it failed: {told(error, ctx.folder)}") from error
        if not isinstance(network, nn.Module):
            raise DataError(f"target {self.target!r} made {type(network).__name__}, not a torch.nn.Module")
        return network.cpu()

    def load(self, data: Data, ctx: SourceContext) -> nn.Module:  # noqa: ARG002 - the weights are in a file
        """The same with the weights of the file."""
        from autoprune_sources._weights import with_weights

        return with_weights(self.build(ctx), self.weights, ctx, strict=self.strict)
