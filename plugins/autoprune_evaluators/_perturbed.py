"""Accuracy on inputs that were changed: noise, corruptions. They are the same for every model, and kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from autoprune import DataError
from autoprune.plugin import Batch, Data, EvaluationContext
from autoprune.plugin.task import shapes
from autoprune_evaluators._passes import ShareEvaluator

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_KEPT_BYTES = 2**30
"""Changed inputs that take more than this on the device are made anew for every model."""


class PerturbedEvaluator(ShareEvaluator):
    """The share of right predictions on inputs that are changed, within their bounds."""

    seed: int = Field(default=0, ge=0, description="Seeds what is drawn, the same for every model of a study.")

    def refuses(self, data: Data) -> str | None:
        """Why it cannot change inputs like these; None when it can."""
        if data.bounds is None:
            return (
                f"{self.name} changes inputs that have bounds, such as images; this data has none, as tokens and"
                " embeddings have none"
            )
        return None

    def batches(self, ctx: EvaluationContext) -> Iterable[Batch]:
        """The samples with their first input changed.

        Raises:
            DataError: Inputs have no bounds, or lie outside them, or are no numbers.
        """
        import torch

        bounds = ctx.data.bounds
        if bounds is None:
            raise DataError(str(self.refuses(ctx.data)))

        def changed() -> Iterator[Batch]:
            generator = torch.Generator().manual_seed(self.seed)
            for inputs, targets in super(PerturbedEvaluator, self).batches(ctx):
                within(self.name, inputs.first, bounds)
                first = self._changed(inputs.first, bounds, generator)
                yield inputs.with_first(first.clamp(*bounds).to(inputs.first)), targets

        options = self.model_dump_json(exclude={"label"})
        return kept(ctx, ("autoprune_evaluators.changed", self.name, options), changed)

    @abstractmethod
    def _changed(self, inputs: Tensor, bounds: tuple[float, float], generator: torch.Generator) -> Tensor:
        """Inputs (N, …) changed, of the same shape; what is drawn is drawn on the CPU."""


def within(metric: str, inputs: Tensor, bounds: tuple[float, float]) -> None:
    """Check that inputs are numbers within their bounds: clipping alone would change others.

    Raises:
        DataError: They are not.
    """
    if not inputs.is_floating_point():
        raise DataError(f"{metric} changes inputs that are real numbers; the first input is {shapes(inputs)}")
    low, high = float(inputs.min()), float(inputs.max())
    if not (bounds[0] <= low and high <= bounds[1]):
        raise DataError(
            f"{metric} keeps to the data's bounds, {bounds[0]:g} to {bounds[1]:g}, "
            f"but inputs go from {low:g} to {high:g}; correct the bounds or the scale of the data"
        )


def kept(ctx: EvaluationContext, key: tuple[Hashable, ...], make: Callable[[], Iterable[Batch]]) -> Iterable[Batch]:
    """Batches that are made once in a study where they fit, else anew each time.

    Args:
        ctx: Its split and device are told apart.
        key: Tells all else that they hang on.
        make: Makes them.
    """

    def made() -> tuple[Batch, ...] | None:
        found, size = [], 0
        for inputs, targets in make():
            found.append((inputs, targets))
            size += inputs.first.nbytes  # the rest is that of the samples
            if size > _KEPT_BYTES:
                return None
        return tuple(found)

    found = ctx.memo((*key, str(ctx.device), ctx.split), made)
    return make() if found is None else found
