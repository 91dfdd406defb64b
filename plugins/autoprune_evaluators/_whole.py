"""Metrics that are a mean over samples of what each contributes, which hangs on all the others: ranks, bins.

Shapes use: N samples.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from autoprune import TrialError
from autoprune.plugin import Difference, EvaluationContext, Inputs, Measured, Task
from autoprune.toolkit import intervals, paired
from autoprune_evaluators._passes import OnePass, Tally

if TYPE_CHECKING:
    from torch import Tensor, nn

_WORTH_A_LOOK = 2
"""Times as many samples: a look goes through all of them, and takes seconds where there are 1,000 classes."""
_KEPT = 2**26
"""Numbers of a pass that are kept, half a gigabyte."""


class WholeEvaluator(OnePass):
    """Keeps what a metric needs of every sample, and tells what each contributes once all are known."""

    @abstractmethod
    def _kept(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        """Of each sample, (N, …), numbers."""

    @abstractmethod
    def _contributions(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Of all samples, (N, …) float64: whose weighted mean the metric is, (N,), and what they count, (N,)."""

    def _mean(self, values: Tensor, counted: Tensor, kept: Tensor) -> Measured:  # noqa: ARG002  for subclasses
        """The metric and its interval; ``kept`` as of `_contributions`."""
        return intervals.mean_of(values, counted)

    def _varies(self, kept: Tensor) -> bool:  # noqa: ARG002  for subclasses
        """Whether the samples tell how much the metric varies: else it is told without an interval."""
        return True

    def _tally(self, ctx: EvaluationContext) -> Tally:
        return _Whole(self, ctx.task)


class _Whole:
    def __init__(self, evaluator: WholeEvaluator, task: Task) -> None:
        self._evaluator, self._task = evaluator, task
        self._batches: list[Tensor] = []
        self._samples = self._told = self._size = 0

    def add(self, model: nn.Module, inputs: Inputs, targets: Any) -> bool:
        kept = self._evaluator._kept(self._task, inputs.feed(model), targets).double().cpu()
        name = self._evaluator.name
        if bool(kept.isnan().any()):
            raise TrialError(f"{name}: the model's outputs are NaN, which have no place among numbers")
        self._batches.append(kept)
        self._samples, self._size = self._samples + len(kept), self._size + kept.numel()
        if self._size > _KEPT:
            raise TrialError(
                f"{name} keeps {kept[0].numel()} numbers of each sample, too many after {self._samples} of them;"
                f" ask it of fewer: {{use: {name}, samples: {_KEPT // kept[0].numel()}}}"
            )
        worth = self._samples >= _WORTH_A_LOOK * self._told
        self._told = self._samples if worth else self._told
        return worth

    def _all(self) -> Tensor:
        import torch

        self._batches = [torch.cat(self._batches)]
        return self._batches[0]

    def measured(self) -> Measured:
        kept = self._all()
        found = self._evaluator._mean(*self._evaluator._contributions(kept), kept)
        # No width, because nothing is known yet to vary, would be taken for certainty.
        known = found.low != found.high and self._evaluator._varies(kept)
        return found if known else Measured(value=found.value, samples=found.samples)

    def less(self, dense: _Whole) -> Difference | None:
        kept = self._all()
        (values, counted), (theirs, alike) = map(self._evaluator._contributions, (kept, dense._all()))
        if not bool((counted == alike).all()):  # a task may count by what a model says
            return None
        found = paired.of_means(values, theirs, counted)
        known = found.low != found.high and self._evaluator._varies(kept)
        return found if known else Difference(value=found.value)
