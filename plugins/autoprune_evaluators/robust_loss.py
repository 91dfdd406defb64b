"""How large an attack makes the loss: for tasks where nothing is right or wrong, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Cost, Data, EvaluationContext, Measured, Metric
from autoprune.toolkit import intervals, paired
from autoprune_evaluators._attacking import BoundedEvaluator, Distance

if TYPE_CHECKING:
    from torch import Tensor, nn


class RobustLoss(BoundedEvaluator):
    """The task's loss under projected gradient descent: the mean over samples of the largest that it finds.

    It is what training against attacks minimises, and tells of numbers, too, as in a regression, where no prediction is
    right or wrong. A sample's largest loss is over the input itself and all iterates. Madry et al., *Towards deep
    learning models resistant to adversarial attacks*, arXiv:1706.06083, equation 2.1.
    """

    name = "robust-loss"
    metrics = (Metric("robust_loss", "task's loss", "minimize", Cost.ATTACK, "Mean loss under the attack."),)

    epsilon: Distance = Field(
        description="Size of the perturbation in input units, before normalisation, as a number or a fraction: 2/255."
    )
    steps: int = Field(default=10, ge=1, description="Gradient steps in one run.")
    step_size: Distance | None = Field(default=None, description="Length of a step; 2.5 * epsilon / steps if left out.")
    restarts: int = Field(default=1, ge=1, description="Runs on each sample, the first included; the worst one counts.")
    seed: int = Field(default=0, ge=0, description="Seeds what is random, the same for every model of a study.")

    def refuses(self, data: Data) -> str | None:
        """Why it cannot attack inputs like these; None when it can."""
        return self._too_large(self.epsilon, data) or super().refuses(data)

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Attack every sample.

        Raises:
            TrialError: A loss is not finite, or has no gradient.
        """
        model, ctx = self.focused(model, ctx)
        found = self._losses(model, ctx, report=True)
        dense = self.kept(ctx, lambda: found if ctx.of_dense else self._losses(ctx.dense, ctx))
        difference = None if ctx.of_dense else paired.of_means(found[0], dense[0], found[1])
        return {"robust_loss": intervals.mean_of(*found).model_copy(update={"difference": difference})}

    def final(self) -> Self:
        """Twice the steps and one more run."""
        return self.model_copy(update={"steps": 2 * self.steps, "restarts": self.restarts + 1})

    def _losses(self, model: nn.Module, ctx: EvaluationContext, *, report: bool = False) -> tuple[Tensor, Tensor]:
        """The largest loss of each sample, and what the sample counts, both (N,)."""
        from autoprune_evaluators._attack import LOSS, ProjectedGradient, withstood

        attack = ProjectedGradient(
            ball=self.ball(self.epsilon),
            steps=self.steps,
            step_size=self.step_size or 2.5 * self.epsilon / self.steps,
            bounds=self.bounds(ctx.data),
            goal=LOSS,
        )

        def tell(lowered: Tensor, counted: Tensor) -> None:
            if not bool(lowered.isfinite().all()):
                raise TrialError(f"{self.name}: a loss under the attack is not finite")
            if report:
                ctx.report({"robust_loss": intervals.mean_of(-lowered, counted)})

        runs = [attack] * self.restarts
        lowered, counted = withstood(
            model, self.batches(ctx), runs, task=ctx.task, seed=self.seed, report=tell, goal=LOSS
        )
        return -lowered, counted
