"""Six indicators by which articles compare a pruned model with the dense one, each as a change from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Cost, Costs, Difference, EvaluationContext, ExactEvaluator, Measured, Metric
from autoprune_evaluators.forward import Accuracy
from autoprune_evaluators.latency import TimedEvaluator
from autoprune_evaluators.robustness import Pgd

if TYPE_CHECKING:
    from torch import nn


class ParameterReduction(ExactEvaluator):
    """The share of the dense model's parameters that is gone."""

    name = "parameter-reduction"
    metrics = (Metric("parameter_reduction", "fraction", "maximize", Cost.EXACT, "Parameters that are gone."),)

    def compute(self, costs: Costs, dense: Costs) -> Mapping[str, float]:
        """The share that is gone."""
        return {"parameter_reduction": 1 - costs.params / dense.params}


class ResourceReduction(ExactEvaluator):
    """The share of the dense model's arithmetic, in multiply-accumulates, that is gone."""

    name = "resource-reduction"
    metrics = (Metric("resource_reduction", "fraction", "maximize", Cost.EXACT, "Multiply-accumulates that are gone."),)

    def compute(self, costs: Costs, dense: Costs) -> Mapping[str, float]:
        """The share that is gone."""
        return {"resource_reduction": 1 - costs.macs / dense.macs}


class InferenceTimeReduction(TimedEvaluator):
    """The share of the dense model's time for a batch that is saved, timed in turn with it as `latency` does."""

    name = "inference-time-reduction"
    metrics = (Metric("inference_time_reduction", "fraction", "maximize", Cost.TIMING, "Of the dense model's time."),)

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Time the network and the dense network in alternating order.

        Raises:
            TrialError: A network can't be compiled.
        """
        ratio = self._timed(model, ctx).ratio
        saved = Difference(value=1 - ratio.value, low=1 - _high(ratio), high=1 - _low(ratio))
        return {"inference_time_reduction": _measured(saved, ratio.samples, ctx)}


class AccuracyLoss(Accuracy):
    """How much less is right than by the dense model, on the same samples: below 0 where it is more.

    With Tango's interval of a paired difference, as `accuracy` tells it beside itself.
    """

    name = "accuracy-loss"
    metrics = (Metric("accuracy_loss", "fraction", "minimize", Cost.FORWARD, "Dense accuracy less this one."),)

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Measure both models.

        Raises:
            TrialError: The task has nothing that is right, or counts by what a model says.
        """
        (found,) = super().evaluate(model, _quiet(ctx)).values()
        gained = _gained(self.name, found, ctx)
        lost = Difference(value=-gained.value, low=-_high(gained), high=-_low(gained))
        return {"accuracy_loss": _measured(lost, _known(found).samples, ctx)}


class RobustnessImprovement(Pgd):
    """How much more is right under PGD than by the dense model, on the same samples and noise: mostly below 0."""

    name = "robustness-improvement"
    metrics = (
        Metric("robustness_improvement", "fraction", "maximize", Cost.ATTACK, "Robust accuracy less the dense one."),
    )

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Attack both models.

        Raises:
            TrialError: The task knows no right and wrong, or no epsilon is found.
        """
        found = dict(super().evaluate(model, _quiet(ctx)))
        robust = found.pop("robust_accuracy")
        gained = _measured(_gained(self.name, robust, ctx), _known(robust).samples, ctx)
        return {"robustness_improvement": gained, **found}


class EfficiencyImprovement(TimedEvaluator):
    """Accuracy for the same time, against the dense model's: ratio of accuracies over ratio of times, less 1.

    A model that keeps all accuracy in half of the time has 1. The two relative errors are added up in squares.
    """

    name = "efficiency-improvement"
    needs = frozenset({"data", "labels"})
    metrics = (
        Metric("efficiency_improvement", "fraction", "maximize", Cost.TIMING, "Accuracy for the same time, gained."),
    )

    samples: int | None = Field(
        default=None, ge=1, description="Samples of the accuracy, a fixed random choice; the whole split if left out."
    )
    head: str = Field(
        default="", description="Of a task with several heads, the one that is measured; all together if left out."
    )

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Time both models, and have them predict.

        Raises:
            TrialError: The task has nothing that is right, the dense model gets nothing right, or a network can't be
                compiled.
        """
        accuracy = Accuracy(samples=self.samples, head=self.head).evaluate(model, _quiet(ctx))["accuracy"]
        gained = _gained(self.name, accuracy, ctx)
        dense = _known(accuracy).value - gained.value
        if dense <= 0:
            raise TrialError(f"{self.name}: the dense model gets nothing right")
        quicker, kept = self._timed(model, ctx).gain, 1 + gained.value / dense
        value = kept * quicker.value - 1

        def half(accuracy_off: float, time_off: float) -> float:
            return math.hypot(accuracy_off / dense * quicker.value, time_off * kept)

        found = Difference(
            value=value,
            low=value - half(gained.value - _low(gained), quicker.value - _low(quicker)),
            high=value + half(_high(gained) - gained.value, _high(quicker) - quicker.value),
        )
        return {"efficiency_improvement": _measured(found, quicker.samples, ctx)}

    def final(self) -> Self:
        """The accuracy on the whole split."""
        return self.model_copy(update={"samples": None})


def _quiet(ctx: EvaluationContext) -> EvaluationContext:
    """Nothing is told on the way: what is known by then is not the metric."""
    return replace(ctx, report=lambda _: None)


def _known(found: float | Measured) -> Measured:
    return found if isinstance(found, Measured) else Measured(value=found)


def _gained(name: str, found: float | Measured, ctx: EvaluationContext) -> Difference:
    """How much more it is than the dense model's; the dense model's own is exactly as much as itself."""
    if ctx.of_dense:
        return Difference(value=0.0, low=0.0, high=0.0)
    difference = _known(found).difference
    if difference is None:
        raise TrialError(f"{name}: what counts hangs on the model's own outputs, so it can't be compared")
    return difference


def _measured(change: Difference, samples: int | None, ctx: EvaluationContext) -> Measured:
    difference = None if ctx.of_dense else change
    return Measured(value=change.value, low=change.low, high=change.high, samples=samples, difference=difference)


def _low(found: Measured | Difference) -> float:
    return found.value if found.low is None else found.low


def _high(found: Measured | Difference) -> float:
    return found.value if found.high is None else found.high
