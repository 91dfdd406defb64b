"""One pass over a split: means of what is asked of each sample, and functions of sums over samples."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from autoprune import TrialError
from autoprune.plugin import EvaluationContext, Measured, Task
from autoprune.plugin.task import shapes
from autoprune.toolkit import intervals
from autoprune.toolkit.samples import SampleEvaluator, weights

if TYPE_CHECKING:
    from torch import Tensor, nn


_WORTH_A_LOOK = 1.25
"""Times as many samples: a bootstrap of 1,000 classes takes a tenth of a second, and looks cost certainty."""


class OnePass(SampleEvaluator):
    """Makes its one metric in a pass over the samples, and tells on the way what is known."""

    undefined: ClassVar[str] = "nothing counts in any of the samples"
    """What to say where the samples do not define the metric."""

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Measure the samples, batch by batch.

        Raises:
            TrialError: The task has nothing to measure, or the samples do not define the metric.
        """
        import torch

        name = self.metrics[0].name
        known = Measured(value=math.nan)
        with torch.inference_mode():
            for known in self._known(*self.focused(model, ctx)):
                if math.isfinite(known.value):
                    ctx.report({name: known})
        if math.isnan(known.value):
            raise TrialError(f"{name}: {self.undefined}")
        return {name: known}

    def final(self) -> Self:
        """The same on the whole split."""
        return self.model_copy(update={"samples": None})

    @abstractmethod
    def _known(self, model: nn.Module, ctx: EvaluationContext) -> Iterator[Measured]:
        """The metric of the samples so far, in the end of all of them; NaN where they do not define it."""


class MeanEvaluator(OnePass):
    """A mean over all elements that count, of a value that each sample has."""

    def _known(self, model: nn.Module, ctx: EvaluationContext) -> Iterator[Measured]:
        import torch

        values: list[Tensor] = []
        counted: list[Tensor] = []
        for inputs, targets in self.batches(ctx):
            outputs = inputs.feed(model)
            values.append(self._values(ctx.task, outputs, targets))
            counted.append(weights(ctx.task, outputs, targets))
            yield self._mean(torch.cat(values), torch.cat(counted))

    @abstractmethod
    def _values(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        """Of each sample, (N,)."""

    def _mean(self, values: Tensor, counted: Tensor) -> Measured:
        """Of all samples so far, both (N,)."""
        return intervals.mean_of(values, counted)


class TotalsEvaluator(OnePass):
    """A function of sums over samples."""

    def _known(self, model: nn.Module, ctx: EvaluationContext) -> Iterator[Measured]:
        totals, told = intervals.Totals(), 0
        for inputs, targets in self.batches(ctx):
            totals.add(self._statistics(ctx.task, inputs.feed(model), targets))
            if totals.samples >= _WORTH_A_LOOK * told:
                told = totals.samples
                yield totals.measured(self._value)
        if told < totals.samples:
            yield totals.measured(self._value)

    @abstractmethod
    def _statistics(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        """Of each sample, (N, K)."""

    @abstractmethod
    def _value(self, sums: Tensor) -> Tensor:
        """The metric of sums of them, (…, K) to (…,)."""


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
