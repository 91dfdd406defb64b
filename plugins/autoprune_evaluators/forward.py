"""How well a model predicts: accuracy and loss over a split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from autoprune.plugin import Cost, EvaluationContext, Measured, Metric
from autoprune.toolkit import intervals
from autoprune.toolkit.samples import SampleEvaluator, losses, right_shares, weights

if TYPE_CHECKING:
    from torch import Tensor, nn


class Accuracy(SampleEvaluator):
    """The share of right predictions, as the task counts them.

    In a classification, of samples whose largest output is their class, with Wilson's 95 % interval; where a sample has
    many elements, the share of all elements that count, with the normal approximation.
    """

    name = "accuracy"
    metrics = (Metric("accuracy", "fraction", "maximize", Cost.FORWARD, "Share of right predictions."),)

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Ask the task what is right.

        Raises:
            TrialError: The task knows no right and wrong.
        """
        import torch

        with torch.inference_mode():
            right: list[Tensor] = []
            counted: list[Tensor] = []
            measured = {}
            for inputs, targets in self.batches(ctx):
                outputs = inputs.feed(model)
                right.append(right_shares(ctx.task, outputs, targets))
                counted.append(weights(ctx.task, outputs, targets))
                measured = {"accuracy": intervals.share_of(torch.cat(right), torch.cat(counted))}
                ctx.report(measured)
            return measured

    def final(self) -> Self:
        """The same on the whole split."""
        return self.model_copy(update={"samples": None})


class Loss(SampleEvaluator):
    """The mean of the task's loss, with the normal approximation of its 95 % interval.

    In a classification it is the cross-entropy in nats, in a regression the squared error.
    """

    name = "loss"
    metrics = (Metric("loss", "of the task", "minimize", Cost.FORWARD, "Mean loss; in nats in a classification."),)

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Average the loss of the samples."""
        import torch

        with torch.inference_mode():
            found: list[Tensor] = []
            counted: list[Tensor] = []
            measured = {}
            for inputs, targets in self.batches(ctx):
                outputs = inputs.feed(model)
                found.append(losses(ctx.task, outputs, targets))
                counted.append(weights(ctx.task, outputs, targets))
                measured = {"loss": intervals.mean_of(torch.cat(found), torch.cat(counted))}
                ctx.report(measured)
            return measured

    def final(self) -> Self:
        """The same on the whole split."""
        return self.model_copy(update={"samples": None})
