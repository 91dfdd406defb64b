"""How many predictions survive an attack along the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from autoprune_evaluators._attacking import AttackEvaluator, Distance, GradientAttackEvaluator

if TYPE_CHECKING:
    from autoprune_evaluators._attack import Attack


class Fgsm(AttackEvaluator):
    """Accuracy under one gradient step of size epsilon from the input itself: quick, and easily fooled.

    Goodfellow et al., *Explaining and harnessing adversarial examples*, arXiv:1412.6572.
    """

    name = "fgsm"

    def _runs(self, epsilon: float, bounds: tuple[float, float]) -> Sequence[Attack]:
        from autoprune_evaluators._attack import ProjectedGradient

        ball = self.ball(epsilon)
        return [ProjectedGradient(ball=ball, steps=1, step_size=epsilon, bounds=bounds, random_start=False)]


class Pgd(GradientAttackEvaluator):
    """Accuracy under projected gradient descent: many small steps uphill on the loss, within epsilon.

    A sample is lost as soon as one of its iterates is misclassified; where a sample has many elements, the iterate with
    the fewest right ones counts. A targeted attack climbs towards a class, and counts any wrong prediction, as those of
    AutoAttack do. Madry et al., *Towards deep learning models resistant to adversarial attacks*,
    arXiv:1706.06083.
    """

    name = "pgd"

    steps: int = Field(default=10, ge=1, description="Gradient steps in one run.")
    step_size: Distance | None = Field(default=None, description="Length of a step; 2.5 * epsilon / steps if left out.")
    random_start: bool = Field(
        default=True, description="Start the first run, like all others, from noise within epsilon, not from the input."
    )

    def _runs(self, epsilon: float, bounds: tuple[float, float]) -> Sequence[Attack]:
        from autoprune_evaluators._attack import ProjectedGradient

        return [
            ProjectedGradient(
                ball=self.ball(epsilon),
                steps=self.steps,
                step_size=self.step_size or 2.5 * epsilon / self.steps,
                bounds=bounds,
                **self._climbed(),
                random_start=self.random_start or run > 0,
            )
            for run in range(self.restarts)
        ]
