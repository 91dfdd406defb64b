"""How well a model predicts: means over a split of what the task says of each sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from autoprune import TrialError
from autoprune.plugin import Cost, Difference, EvaluationContext, Inputs, Measured, Metric, Task
from autoprune.toolkit import intervals, paired
from autoprune.toolkit.samples import agreements, losses, weights
from autoprune_evaluators._passes import MeanEvaluator, OnePass, ShareEvaluator, Tally, came

if TYPE_CHECKING:
    from torch import Tensor, nn

_KEPT_BYTES = 2**30
"""Outputs of the dense model that take more than this on the device are computed anew for every model."""


class Accuracy(ShareEvaluator):
    """The share of right predictions, as the task counts them.

    In a classification, of samples whose largest output is their class, with Wilson's 95 % interval; where a sample has
    many elements, the share of all elements that count, with the normal approximation.
    """

    name = "accuracy"
    metrics = (Metric("accuracy", "fraction", "maximize", Cost.FORWARD, "Share of right predictions."),)


class Loss(MeanEvaluator):
    """The mean of the task's loss, with the normal approximation of its 95 % interval.

    In a classification it is the cross-entropy in nats, in a regression the squared error.
    """

    name = "loss"
    metrics = (Metric("loss", "of the task", "minimize", Cost.FORWARD, "Mean loss; in nats in a classification."),)

    def _values(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        return losses(task, outputs, targets)


class Perplexity(MeanEvaluator):
    """Between how many tokens, or classes, a model hesitates: exp of the mean cross-entropy of all that count.

    Its interval is that of the mean.
    """

    name = "perplexity"
    metrics = (Metric("perplexity", "1", "minimize", Cost.FORWARD, "exp of the mean loss of a token, or class."),)

    def _values(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        told = came(self.name, "is of tasks that choose one class, or token", task, outputs, targets)
        if targets.is_floating_point() or targets.shape == outputs.shape:
            raise TrialError(f"{told}: use loss")
        return losses(task, outputs, targets)

    def _mean(self, values: Tensor, counted: Tensor) -> Measured:
        return changed(intervals.mean_of(values, counted), _exp)

    def _less(self, values: Tensor, dense: Tensor, counted: Tensor) -> Difference | None:
        return changed_difference(values, dense, counted, _exp, slope=_exp)


class Agreement(OnePass):
    """The share of the dense model's predictions that a model still makes, right or wrong, as the task compares them.

    It needs no true targets. In a regression it falls with the distance of the two, in units of the dense model's
    variance: 1 / (1 + distance).
    """

    name = "agreement"
    needs = frozenset({"data"})
    metrics = (
        Metric("agreement", "fraction", "maximize", Cost.FORWARD, "Share of the dense model's predictions still made."),
    )

    def _tally(self, ctx: EvaluationContext) -> Tally:
        return _Agreements(ctx.task, iter(self._dense_outputs(ctx)))

    def _of_dense(self, tally: Tally, ctx: EvaluationContext) -> None:
        """Nothing: the metric tells how much a model differs already."""

    def _dense_outputs(self, ctx: EvaluationContext) -> Iterable[Any]:
        """Of each batch, computed once per study if they fit."""

        def kept() -> tuple[Any, ...] | None:
            found, size = [], 0
            for inputs, _ in self.batches(ctx):
                found.append(outputs := inputs.feed(ctx.dense))
                size += sum(leaf.nbytes for leaf in (outputs.values() if isinstance(outputs, Mapping) else (outputs,)))
                if size > _KEPT_BYTES:
                    return None
            return tuple(found)

        key = ("autoprune_evaluators.agreement", str(ctx.device), ctx.split, self.samples, self.batch_size, self.head)
        outputs = ctx.memo(key, kept)
        return (inputs.feed(ctx.dense) for inputs, _ in self.batches(ctx)) if outputs is None else outputs


class _Agreements:
    def __init__(self, task: Task, dense: Iterator[Any]) -> None:
        self._task, self._dense = task, dense
        self._shares: list[Tensor] = []
        self._counted: list[Tensor] = []

    def add(self, model: nn.Module, inputs: Inputs, targets: Any) -> bool:
        outputs = inputs.feed(model)
        self._shares.append(agreements(self._task, outputs, next(self._dense), targets))
        self._counted.append(weights(self._task, outputs, targets))
        return True

    def measured(self) -> Measured:
        import torch

        return intervals.share_of(torch.cat(self._shares), torch.cat(self._counted))

    def less(self, dense: Any) -> None:
        """Nothing, as there is no such tally."""


def changed(measured: Measured, change: Callable[[float], float]) -> Measured:
    """A rising function of what was measured; without an interval where that has an end that is no number any more."""
    value = change(measured.value)
    if measured.low is None or measured.high is None or not math.isfinite(change(measured.high)):
        return Measured(value=value, samples=measured.samples)
    return Measured(value=value, low=change(measured.low), high=change(measured.high), samples=measured.samples)


def changed_difference(
    values: Tensor, dense: Tensor, counted: Tensor, change: Callable[[float], float], slope: Callable[[float], float]
) -> Difference | None:
    """The difference of a function of two means, to first order; None where it is no number.

    Args:
        values: Of each sample, (N,).
        dense: The dense model's, (N,).
        counted: What each counts, (N,).
        change: The function.
        slope: Its derivative.
    """
    mine, theirs = (intervals.mean_of(each, counted).value for each in (values, dense))
    found, value = paired.of_means(values, dense, counted, (slope(mine), slope(theirs))), change(mine) - change(theirs)
    if not math.isfinite(value):
        return None
    if found.low is None or found.high is None or not math.isfinite(found.high - found.low):
        return Difference(value=value)
    half = (found.high - found.low) / 2
    return Difference(value=value, low=value - half, high=value + half)


def _exp(nats: float) -> float:
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf
