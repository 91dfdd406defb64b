"""One pass over a split: means of what is asked of each sample, and functions of sums over samples."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from autoprune import TrialError
from autoprune.plugin import Difference, EvaluationContext, Inputs, Measured, Task
from autoprune.plugin.task import shapes
from autoprune.toolkit import intervals, paired
from autoprune.toolkit.samples import SampleEvaluator, right_shares, weights

if TYPE_CHECKING:
    from torch import Tensor, nn


_WORTH_A_LOOK = 1.25
"""Times as many samples: a bootstrap of 1,000 classes takes a tenth of a second, and looks cost certainty."""


class OnePass(SampleEvaluator):
    """Makes its one metric in a pass over the samples, and tells on the way what is known.

    What it keeps of the dense model's pass tells how much a model differs from that.
    """

    undefined: ClassVar[str] = "nothing counts in any of the samples"
    """What to say where the samples do not define the metric."""

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Measure the samples, batch by batch.

        Raises:
            TrialError: The task has nothing to measure, or the samples do not define the metric.
        """
        import torch

        name = self.metrics[0].name
        model, ctx = self.focused(model, ctx)
        with torch.inference_mode():
            tally, told = self._tally(ctx), False
            for batch in self.batches(ctx):
                told = tally.add(model, *batch)
                if told and math.isfinite((known := tally.measured()).value):
                    ctx.report({name: known})
            known = tally.measured()
            if math.isnan(known.value):
                raise TrialError(f"{name}: {self.undefined}")
            if not told:
                ctx.report({name: known})
            dense = self._of_dense(tally, ctx)
            return {name: known.model_copy(update={"difference": dense and tally.less(dense)})}

    def _of_dense(self, tally: Tally, ctx: EvaluationContext) -> Tally | None:
        """What is kept of the dense model's pass over the same samples; None for the dense model itself."""

        def made() -> Tally:
            other = self._tally(ctx)
            for batch in self.batches(ctx):
                other.add(ctx.dense, *batch)
            return other

        found: Tally = self.kept(ctx, (lambda: tally) if ctx.of_dense else made)
        return None if ctx.of_dense else found

    def final(self) -> Self:
        """The same on the whole split."""
        return self.model_copy(update={"samples": None})

    @abstractmethod
    def _tally(self, ctx: EvaluationContext) -> Tally:
        """What is kept of a pass, before its first batch."""


class Tally(Protocol):
    """What is kept of a pass over samples."""

    def add(self, model: nn.Module, inputs: Inputs, targets: Any) -> bool:
        """Have a model predict a batch; whether it is worth a look what is known by now."""

    def measured(self) -> Measured:
        """The metric of the samples so far; NaN where they do not define it."""

    def less(self, dense: Any) -> Difference | None:
        """How much more the metric is than by the dense model's tally; None where that is not known."""


class MeanEvaluator(OnePass):
    """A mean over all elements that count, of a value that each sample has, or a function of it."""

    @abstractmethod
    def _values(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        """Of each sample, (N,)."""

    def _mean(self, values: Tensor, counted: Tensor) -> Measured:
        """Of all samples so far, both (N,)."""
        return intervals.mean_of(values, counted)

    def _less(self, values: Tensor, dense: Tensor, counted: Tensor) -> Difference | None:
        """Of all samples, all (N,), from what the dense model has."""
        return paired.of_means(values, dense, counted)

    def _tally(self, ctx: EvaluationContext) -> Tally:
        return _Means(self, ctx.task)


class ShareEvaluator(MeanEvaluator):
    """The share that is right, as the task counts it, with Wilson's interval where samples are right as a whole."""

    def _values(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        return right_shares(task, outputs, targets)

    def _mean(self, values: Tensor, counted: Tensor) -> Measured:
        return intervals.share_of(values, counted)

    def _less(self, values: Tensor, dense: Tensor, counted: Tensor) -> Difference:
        return paired.of_shares(values, dense, counted)


class _Means:
    def __init__(self, evaluator: MeanEvaluator, task: Task) -> None:
        self._evaluator, self._task = evaluator, task
        self._values: list[Tensor] = []
        self._counted: list[Tensor] = []

    def add(self, model: nn.Module, inputs: Inputs, targets: Any) -> bool:
        outputs = inputs.feed(model)
        self._values.append(self._evaluator._values(self._task, outputs, targets))
        self._counted.append(weights(self._task, outputs, targets))
        return True

    def _all(self) -> tuple[Tensor, Tensor]:
        import torch

        return torch.cat(self._values), torch.cat(self._counted)

    def measured(self) -> Measured:
        return self._evaluator._mean(*self._all())

    def less(self, dense: _Means) -> Difference | None:
        (values, counted), (theirs, alike) = self._all(), dense._all()
        if not bool((counted == alike).all()):  # a task may count by what a model says
            return None
        return self._evaluator._less(values, theirs, counted)


class TotalsEvaluator(OnePass):
    """A function of sums over samples."""

    @abstractmethod
    def _statistics(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        """Of each sample, (N, K)."""

    @abstractmethod
    def _value(self, sums: Tensor) -> Tensor:
        """The metric of sums of them, (…, K) to (…,)."""

    def _ends(self, sums: Tensor) -> tuple[float, float] | None:  # noqa: ARG002  for subclasses
        """The 95 % interval, from the sums over all samples, (K,); the bootstrap's if None."""
        return None

    def _tally(self, ctx: EvaluationContext) -> Tally:
        return _Sums(self, ctx.task)


class WorstShare(TotalsEvaluator):
    """The smallest of several groups' shares of right elements.

    Each sample tells of every group, G of them, its right elements, whether it has any, and how many: (N, 3 G).
    """

    def _value(self, sums: Tensor) -> Tensor:
        import torch

        hits, _, elements = sums.unflatten(-1, (3, -1)).unbind(-2)  # type: ignore[no-untyped-call]
        smallest: Tensor = (hits / elements).where(elements > 0, math.inf).amin(-1)
        return torch.where(smallest.isfinite(), smallest, math.nan)

    def _ends(self, sums: Tensor) -> tuple[float, float]:
        hits, samples, elements = sums.unflatten(0, (3, -1)).unbind(0)  # type: ignore[no-untyped-call]
        there = elements > 0
        shares, samples = (hits / elements)[there], samples[there]
        z = NormalDist().inv_cdf(1 - 0.025 / len(shares))
        scale = 1 + z * z / samples
        middles = (shares + z * z / (2 * samples)) / scale
        halves = z / scale * (shares * (1 - shares) / samples + (z / (2 * samples)).square()).sqrt()
        value = float(shares.min())
        # Rounding must not push an end past the value.
        return max(0.0, min(value, float((middles - halves).min()))), max(value, float((middles + halves).min()))


class _Sums:
    def __init__(self, evaluator: TotalsEvaluator, task: Task) -> None:
        self._evaluator, self._task = evaluator, task
        self._totals, self._told = intervals.Totals(), 0
        self._sums: Tensor | None = None

    def add(self, model: nn.Module, inputs: Inputs, targets: Any) -> bool:
        statistics = self._evaluator._statistics(self._task, inputs.feed(model), targets).cpu().double()
        self._totals.add(statistics)
        self._sums = statistics.sum(0) if self._sums is None else self._sums + statistics.sum(0)
        worth = self._totals.samples >= _WORTH_A_LOOK * self._told
        self._told = self._totals.samples if worth else self._told
        return worth

    def measured(self) -> Measured:
        found = self._totals.measured(self._evaluator._value)
        if self._sums is None or not math.isfinite(found.value) or not (ends := self._evaluator._ends(self._sums)):
            return found
        return found.model_copy(update={"low": ends[0], "high": ends[1]})

    def less(self, dense: _Sums) -> Difference | None:
        return self._totals.difference(dense._totals, self._evaluator._value)


def came(metric: str, takes: str, task: Task, outputs: Any, targets: Any) -> str:
    """How a message begins that refuses what a metric was asked of.

    Args:
        metric: Its ``use``.
        takes: What it is of.
        task: The one that is measured.
        outputs: One tensor.
        targets: One tensor.

    Raises:
        TrialError: They are several by name, those of heads.
    """
    told = f"{metric} {takes}; task {task.name} has outputs {shapes(outputs)} and targets {shapes(targets)}"
    if isinstance(outputs, Mapping) or isinstance(targets, Mapping):
        raise TrialError(f"{told}: say which, {{use: {metric}, head: {next(iter(targets or outputs), '…')}}}")
    return told
