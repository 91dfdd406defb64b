"""Auto-PGD: a gradient attack that chooses its step sizes itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from autoprune_evaluators._attacking import GradientAttackEvaluator

if TYPE_CHECKING:
    from autoprune_evaluators._attack import Attack


class Apgd(GradientAttackEvaluator):
    """Accuracy under Auto-PGD: momentum, and a step that is halved where a sample makes no progress.

    It has no step size to get wrong. A sample is lost as soon as one of its iterates is misclassified. Croce and Hein,
    *Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks*,
    arXiv:2003.01690.
    """

    name = "apgd"

    steps: int = Field(default=20, ge=1, description="Gradient steps in one run.")

    def _runs(self, epsilon: float, bounds: tuple[float, float]) -> Sequence[Attack]:
        from autoprune_evaluators._apgd import AutoProjectedGradient

        run = AutoProjectedGradient(
            ball=self.ball(epsilon), steps=self.steps, step_size=2 * epsilon, bounds=bounds, **self._climbed()
        )
        return [run] * self.restarts
