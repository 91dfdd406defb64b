"""A metric whose direction is misspelt."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from autoprune.plugin import Cost, EvaluationContext, Evaluator, Measured, Metric


class Margin(Evaluator):
    name = "margin"
    metrics = (Metric("margin", "logits", "maximise", Cost.FORWARD),)  # type: ignore[arg-type]

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        return {"margin": 0.0}
