"""What evaluators on labelled samples share: which samples, in which batches, and what the task says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from autoprune.errors import TrialError
from autoprune.plugin import Batch, EvaluationContext, Evaluator, Task
from autoprune.plugin.task import shapes

if TYPE_CHECKING:
    from torch import Tensor

_KEPT_BYTES = 2**30
"""Samples that take more than this on the device are fetched anew for every model."""


class SampleEvaluator(Evaluator):
    """An evaluator that runs the model on labelled samples, the same ones for every model of a study.

    Example:
        >>> class WorstLoss(SampleEvaluator):
        ...     def evaluate(self, model, ctx):
        ...         worst = 0.0
        ...         with torch.inference_mode():
        ...             for inputs, targets in self.batches(ctx):
        ...                 worst = max(worst, float(losses(ctx.task, inputs.feed(model), targets).max()))
        ...         return {"worst_loss": worst}
    """

    only_predicts: ClassVar[bool] = True
    samples: int | None = Field(
        default=None, ge=1, description="Samples to use, a fixed random choice; the whole split if left out."
    )
    batch_size: int = Field(default=128, ge=1, description="Samples in one forward pass.")

    def batches(self, ctx: EvaluationContext) -> Iterable[Batch]:
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

        inputs, targets = split.fetch(torch.zeros(1, dtype=torch.int64))
        labels = tuple(targets.values()) if isinstance(targets, Mapping) else (targets,)
        if sum(tensor.nbytes for tensor in (*inputs.tensors, *labels)) * count > _KEPT_BYTES:
            return fetch()
        key = ("autoprune.toolkit.samples", str(ctx.device), ctx.split, count, self.batch_size)
        return ctx.memo(key, lambda: tuple(fetch()))


def losses(task: Task, outputs: Any, targets: Any) -> Tensor:
    """The task's loss of each sample, (N,), differentiable.

    Raises:
        TrialError: The task gives another shape.
    """
    return _of_each(task, "loss", task.loss(outputs, targets), outputs)


def right_shares(task: Task, outputs: Any, targets: Any) -> Tensor:
    """The share of each sample that is right, (N,), in [0, 1].

    Args:
        task: Says what is right.
        outputs: What it picked of the model's.
        targets: Those of the data.

    Raises:
        TrialError: The task knows no right and wrong, or gives another shape, or what is no share.
    """
    shares = task.correct(outputs, targets)
    if shares is None:
        raise TrialError(f"{task.name} has nothing that is right or wrong; use loss")
    if bool(((shares < 0) | (shares > 1)).any()):
        low, high = float(shares.min()), float(shares.max())
        raise TrialError(f"correct of task {task.name} gives {low:g} to {high:g}; shares are between 0 and 1")
    return _of_each(task, "correct", shares, outputs)


def _of_each(task: Task, what: str, values: Tensor, outputs: Any) -> Tensor:
    # Anything else would be averaged without a word.
    if values.shape != (len(outputs),):
        raise TrialError(f"{what} of task {task.name} gives {shapes(values)} for {len(outputs)} samples, not one each")
    return values
