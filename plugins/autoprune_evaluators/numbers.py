"""How near predicted numbers are to the true ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from autoprune import TrialError
from autoprune.plugin import Cost, Difference, Measured, Metric, Task
from autoprune.toolkit import intervals
from autoprune_evaluators._passes import MeanEvaluator, TotalsEvaluator, came
from autoprune_evaluators.forward import changed, changed_difference

if TYPE_CHECKING:
    from torch import Tensor

_CONSTANT = 1e-12
"""Variance, of the mean square, below which a number counts as the same for all samples: float32 tells no more."""


class Mae(MeanEvaluator):
    """The mean absolute error over all numbers, with the normal approximation of its 95 % interval."""

    name = "mae"
    metrics = (Metric("mae", "of the targets", "minimize", Cost.FORWARD, "Mean absolute error."),)

    def _values(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        predicted, true = _numbers(self.name, task, outputs, targets)
        return (predicted - true).abs().mean(1)


class Rmse(MeanEvaluator):
    """The root of the mean squared error over all numbers; its interval is that of the mean."""

    name = "rmse"
    metrics = (Metric("rmse", "of the targets", "minimize", Cost.FORWARD, "Root of the mean squared error."),)

    def _values(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        predicted, true = _numbers(self.name, task, outputs, targets)
        return (predicted - true).square().mean(1)

    def _mean(self, values: Tensor, counted: Tensor) -> Measured:
        return changed(intervals.mean_of(values, counted), _root)

    def _less(self, values: Tensor, dense: Tensor, counted: Tensor) -> Difference | None:
        return changed_difference(values, dense, counted, _root, slope=lambda square: 0.5 / max(_root(square), 1e-150))


def _root(square: float) -> float:
    return math.sqrt(max(0.0, square))


class R2(TotalsEvaluator):
    """R², the share of the targets' variance that is explained: the mean over the numbers of a sample.

    1 is perfect, 0 as good as the mean of the targets, less is worse than that. Its 95 % interval is a bootstrap's.
    """

    name = "r2"
    metrics = (Metric("r2", "1", "maximize", Cost.FORWARD, "Coefficient of determination, R²."),)
    undefined: ClassVar[str] = "a target is the same for all samples, so that there is no variance to explain"

    def _statistics(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        import torch

        predicted, true = _numbers(self.name, task, outputs, targets)
        each = (torch.ones_like(true), true, true.square(), (predicted - true).square())
        return torch.stack(each, dim=1).flatten(1)

    def _value(self, sums: Tensor) -> Tensor:
        count, total, squares, errors = sums.unflatten(-1, (4, -1)).unbind(-2)  # type: ignore[no-untyped-call]
        spread = squares - total.square() / count
        spread = spread.where(spread > _CONSTANT * squares, math.nan)
        explained: Tensor = 1 - errors / spread
        return explained.mean(-1)


def _numbers(metric: str, task: Task, outputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
    """Predicted and true ones, both (N, D) float64.

    Raises:
        TrialError: The task does not predict numbers, or not the same ones as the targets are.
    """
    told = came(metric, "compares numbers", task, outputs, targets)
    if not outputs.is_floating_point() or not targets.is_floating_point():
        raise TrialError(f"{told}: for classes use accuracy or f1")
    one_each = len(outputs) == len(targets) == outputs.numel() == targets.numel()
    if outputs.shape != targets.shape and not one_each:
        raise TrialError(f"{told}: let the data give targets in the shape of the outputs")
    if task.correct(outputs, targets) is not None:
        raise TrialError(f"{told}, which are right or wrong: use accuracy or f1")
    if task.counted(outputs, targets) is not None:
        raise TrialError(f"{told}, and does not tell which of them count: use loss")
    predicted = outputs.double().reshape(len(outputs), -1)
    return predicted, targets.double().reshape(predicted.shape)
