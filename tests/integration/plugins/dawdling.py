"""An evaluator that takes its time, for commands that are to be stopped in the middle of a trial."""

from __future__ import annotations

import time

from torch import nn

from autoprune.plugin import Cost, EvaluationContext, Evaluator, Metric


class Dawdling(Evaluator):
    """Sleeps."""

    name = "dawdling"
    metrics = (Metric("slept_s", "s", "minimize", Cost.FORWARD),)

    seconds: float = 1.0

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> dict[str, float]:
        time.sleep(self.seconds)
        return {"slept_s": self.seconds}
