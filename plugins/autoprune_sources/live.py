"""A model and data that Python code handed over: ``autoprune.search(model=network, data={"train": loader, …})``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import Field

from autoprune import DataError
from autoprune.plugin import Data, ModelSource, SourceContext
from autoprune_sources._loaded import LoadedSource

if TYPE_CHECKING:
    from torch import nn


class LiveModel(ModelSource):
    """The network that was handed to ``autoprune.search(model=network)``, which itself is left as it is.

    It is of one process: a study of it is resumed by ``autoprune.resume(study, model=network, …)``, and its saved
    models are opened by ``autoprune.load_pruned(folder, dense=network)``.
    """

    name = "live"

    weights: str = Field(
        default="",
        pattern="^([0-9a-f]{16})?$",
        description="Fingerprint of its weights: a study is not resumed with others. Not looked at if left out.",
    )

    @property
    def runs_named_code(self) -> bool:
        """Not it: a network is handed over, or there is none."""
        return False

    def build(self, ctx: SourceContext) -> nn.Module:
        """A copy with weights as its layers draw them, from the seed.

        Raises:
            DataError: There is no such object in this process, or a layer does not say how it begins.
        """
        import torch

        if "model" not in ctx.objects:
            raise DataError(
                "the dense model was handed over as a Python object, which this process does not have; hand over one"
                " like it: load_pruned(folder, dense=network)"
            )
        network = self._copied(ctx)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(ctx.seed)
            for name, module in network.named_modules():
                if (reset := _reset(module)) is not None:
                    reset()
                elif next(module.parameters(recurse=False), None) is not None:
                    raise DataError(
                        f"module {name or 'of the model'} ({type(module).__name__}) has weights of its own and no"
                        " reset_parameters(), so nobody knows how it begins; name the model by {use: factory}"
                    )
        return network

    def load(self, data: Data, ctx: SourceContext) -> nn.Module:  # noqa: ARG002  it has its weights
        """A copy, on the CPU."""
        from autoprune.toolkit.fingerprints import of_weights

        if "model" not in ctx.objects:
            raise _missing("model")
        network = self._copied(ctx)
        if self.weights and of_weights(network) != self.weights:
            raise DataError(
                "model: its weights are not those that the study began with, so its trials would not compare; hand over"
                " the network as it was, or begin a new search"
            )
        return network

    def _copied(self, ctx: SourceContext) -> nn.Module:
        from autoprune.toolkit.copies import duplicate

        network = ctx.objects["model"]
        try:
            copied = duplicate(network)
        except Exception as error:  # whatever a module's own way of copying raises
            told = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise DataError(
                f"model: this {type(network).__name__} cannot be copied, so it cannot be searched as an object; name"
                f" the function that makes it by {{use: factory}}: {told}"
            ) from error
        return copied.cpu()


class LiveData(LoadedSource):
    """What was handed to ``autoprune.search(data={"train": …, "validation": …, "test": …})``.

    Each split is a torch ``Dataset``, a ``DataLoader``, a tuple of tensors or an iterable of batches; the options below
    stand beside the splits. It is of one process: a study of it is resumed by ``autoprune.resume(study, data=…, …)``.
    """

    name = "live"

    def load(self, ctx: SourceContext) -> Data:
        """The splits; one that is not there is carved from the training split."""
        if "data" not in ctx.objects:
            raise _missing("data")
        handed = ctx.objects["data"]
        return handed if isinstance(handed, Data) else self.of_splits(handed)


def _reset(module: nn.Module) -> Callable[[], object] | None:
    """What draws a module's own weights anew."""
    found = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)  # attention's
    return found if callable(found) else None


def _missing(kind: str) -> DataError:
    return DataError(
        f"{kind}: {{use: live}} is an object of the Python process that searched; go on from Python:"
        " autoprune.resume(study, model=…, data=…)"
    )
