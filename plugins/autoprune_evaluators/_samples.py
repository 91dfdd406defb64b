"""What evaluators on labelled samples share: which samples, in which batches, and when a prediction is right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from autoprune.plugin import Batch, EvaluationContext, Evaluator

if TYPE_CHECKING:
    from torch import Tensor

_KEPT_BYTES = 2**30
"""Samples that take more than this on the device are fetched anew for every model."""


class SampleEvaluator(Evaluator):
    """An evaluator that runs the model on labelled samples, the same ones for every model of a study."""

    only_predicts: ClassVar[bool] = True
    samples: int | None = Field(
        default=None, ge=1, description="Samples to use, a fixed random choice; the whole split if left out."
    )
    batch_size: int = Field(default=128, ge=1, description="Samples in one forward pass.")

    def _batches(self, ctx: EvaluationContext) -> Iterable[Batch]:
        """The samples on the device, fetched once per study if they fit.

        They come in a random order, not in that of the split, which may well be stored class by class: so a part of
        them tells about the rest.
        """
        import torch

        split = ctx.data.split(ctx.split)
        count = min(self.samples or len(split), len(split))

        def fetch() -> Iterable[Batch]:
            order = torch.Generator().manual_seed(0)
            return split.batches(self.batch_size, samples=count, device=ctx.device, generator=order)

        inputs, _ = split.fetch(torch.zeros(1, dtype=torch.int64))
        if sum(tensor.nbytes for tensor in inputs) * count > _KEPT_BYTES:
            return fetch()
        key = ("autoprune_evaluators.batches", str(ctx.device), ctx.split, count, self.batch_size)
        return ctx.memo(key, lambda: tuple(fetch()))


def hits(logits: Tensor, targets: Tensor) -> Tensor:
    """Which predictions are right; one that contains NaN never is.

    Args:
        logits: Of shape (N, C).
        targets: Class indices of shape (N,).

    Returns:
        Booleans of shape (N,).
    """
    return (logits.argmax(dim=1) == targets) & ~logits.isnan().any(dim=1)
