"""How well a model predicts: accuracy and loss over a split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from autoprune.plugin import Cost, EvaluationContext, Measured, Metric
from autoprune.toolkit import intervals
from autoprune_evaluators._samples import SampleEvaluator, hits

if TYPE_CHECKING:
    from torch import Tensor, nn


class Accuracy(SampleEvaluator):
    """The share of samples whose largest output is their class, with Wilson's 95 % interval."""

    name = "accuracy"
    metrics = (Metric("accuracy", "fraction", "maximize", Cost.FORWARD, "Share of right predictions."),)

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Count the right predictions; an output that contains NaN is wrong."""
        import torch

        right = total = 0
        with torch.inference_mode():
            for inputs, targets in self._batches(ctx):
                right += int(hits(model(*inputs), targets).sum())
                total += len(targets)
                ctx.report({"accuracy": intervals.proportion(right, total)})
        return {"accuracy": intervals.proportion(right, total)}

    def final(self) -> Self:
        """The same on the whole split."""
        return self.model_copy(update={"samples": None})


class Loss(SampleEvaluator):
    """The mean cross-entropy in nats, with the normal approximation of its 95 % interval."""

    name = "loss"
    metrics = (Metric("loss", "nats", "minimize", Cost.FORWARD, "Mean cross-entropy."),)

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Average the cross-entropy of the outputs, taken as logits."""
        import torch
        from torch.nn.functional import cross_entropy

        with torch.inference_mode():
            losses: list[Tensor] = []
            measured = {}
            for inputs, targets in self._batches(ctx):
                losses.append(cross_entropy(model(*inputs).double(), targets, reduction="none"))
                measured = {"loss": _mean(torch.cat(losses))}
                ctx.report(measured)
            return measured

    def final(self) -> Self:
        """The same on the whole split."""
        return self.model_copy(update={"samples": None})


def _mean(losses: Tensor) -> Measured:
    deviation = float(losses.std()) if len(losses) > 1 else 0.0
    return intervals.mean(float(losses.mean()), deviation=deviation, samples=len(losses))
