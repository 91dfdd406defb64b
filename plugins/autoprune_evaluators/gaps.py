"""How much better a model does on what it was trained on: the gap between splits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from autoprune import TrialError
from autoprune.plugin import Cost, Difference, EvaluationContext, Measured, Metric, apart
from autoprune.toolkit import intervals, paired
from autoprune.toolkit.samples import SampleEvaluator, losses, right_shares, weights

if TYPE_CHECKING:
    from torch import Tensor, nn


class GeneralizationGap(SampleEvaluator):
    """Accuracy on samples of the train split less that on the measured split, on as many samples of either.

    Where nothing is right or wrong it is minus the task's loss in its place. The 95 % interval is that of a difference
    of two independent means, from those of each (Newcombe, *Interval estimation for the difference between independent
    proportions*, Statistics in Medicine 17, 1998, method 10, which holds for means as well).
    """

    name = "generalization-gap"
    metrics = (
        Metric(
            "generalization_gap",
            "fraction, or of the loss",
            "minimize",
            Cost.FORWARD,
            "Accuracy on train samples less that on the measured ones; minus loss where nothing is right or wrong.",
        ),
    )

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Measure samples of both splits.

        Raises:
            TrialError: Nothing counts in the samples of a split, or a loss is no number.
        """
        import torch

        model, ctx = self.focused(model, ctx)

        def told(train: _Side, other: _Side) -> None:
            if math.isfinite((known := _gap(train, other)).value):
                ctx.report({"generalization_gap": known})

        with torch.inference_mode():
            train, other = self._sides(model, ctx, told)
            found = _gap(train, other)
            if not math.isfinite(found.value):
                raise TrialError("generalization_gap: nothing counts in the samples of a split, or a loss is no number")
            dense = self.kept(ctx, lambda: (train, other) if ctx.of_dense else self._sides(ctx.dense, ctx))
            if not ctx.of_dense and (less := _less((train, other), dense)):
                found = found.model_copy(update={"difference": less})
        return {"generalization_gap": found}

    def final(self) -> Self:
        """The same on the whole split, and as many train samples."""
        return self.model_copy(update={"samples": None})

    def _sides(
        self, model: nn.Module, ctx: EvaluationContext, told: Callable[[_Side, _Side], None] = lambda *_: None
    ) -> tuple[_Side, _Side]:
        """Of the train split and of the measured one."""
        count = min(self.samples or len(ctx.data.split(ctx.split)), len(ctx.data.split(ctx.split)))
        train = self.model_copy(update={"samples": count})._side(model, replace(ctx, split="train"))
        return train, self._side(model, ctx, lambda other: told(train, other))

    def _side(self, model: nn.Module, ctx: EvaluationContext, told: Callable[[_Side], None] = lambda _: None) -> _Side:
        import torch

        side = None
        for inputs, targets in self.batches(ctx):
            outputs = inputs.feed(model)
            shares = ctx.task.correct(outputs, targets) is not None
            values = right_shares(ctx.task, outputs, targets) if shares else -losses(ctx.task, outputs, targets)
            found = _Side(values.double(), weights(ctx.task, outputs, targets).double(), shares=shares)
            if side is not None:
                values, counted = torch.cat([side.values, found.values]), torch.cat([side.counted, found.counted])
                found = _Side(values, counted, shares=shares)
            side = found
            told(side)
        if side is None:
            raise TrialError(f"{self.name}: the {ctx.split} split is empty")
        return side


@dataclass(frozen=True)
class _Side:
    """Of the samples of one split."""

    values: Tensor
    """The share that is right, or minus the loss, (N,)."""
    counted: Tensor
    """What each counts, (N,)."""
    shares: bool

    @property
    def mean(self) -> Measured:
        return (intervals.share_of if self.shares else intervals.mean_of)(self.values, self.counted)

    def less(self, dense: _Side) -> Difference | None:
        if not bool((self.counted == dense.counted).all()):  # a task may count by what a model says
            return None
        return (paired.of_shares if self.shares else paired.of_means)(self.values, dense.values, self.counted)


def _gap(train: _Side, other: _Side) -> Measured:
    found = apart(train.mean, other.mean)
    return Measured(value=found.value, low=found.low, high=found.high, samples=len(other.values))


def _less(sides: tuple[_Side, _Side], dense: tuple[_Side, _Side]) -> Difference | None:
    """How much larger the gap is than the dense model's, on the same samples of either split."""
    train, other = (mine.less(theirs) for mine, theirs in zip(sides, dense, strict=True))
    return apart(train, other) if train and other else None
