"""Train the pruned network to answer as the dense one does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from autoprune.plugin import Recovery
from autoprune.plugin.data import mapped
from autoprune.toolkit.samples import divergences
from autoprune.toolkit.training import Training, train

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Inputs, PruneContext, Pruned, Task


class Distill(Training, Recovery):
    """A short training towards the outputs of the dense network, its teacher, and towards the targets.

    Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv:1503.02531: the loss is weight * T² * KL of the
    softened outputs + (1 - weight) * the task's loss. Tasks other than classification use their own divergence from the
    dense outputs; where that does not hang on the outputs' scale, as regression's, there is nothing to soften.
    """

    name = "distill"

    weight: float = Field(
        default=0.9, gt=0, le=1, description="Share of the dense outputs in the loss; with 1 targets are not looked at."
    )
    temperature: float = Field(
        default=2.0, gt=0, description="Outputs are divided by it, so that small class probabilities count, too."
    )

    def recover(self, pruned: Pruned, ctx: PruneContext) -> None:
        """Train the parameters that require gradients, or all of them if none does.

        Raises:
            TrialError: The loss became infinite or NaN.
        """
        import torch

        teacher = ctx.predictor(ctx.dense)

        def loss(outputs: Any, inputs: Inputs, targets: Any) -> Tensor:
            with torch.no_grad():
                dense = inputs.feed(teacher)
            distance = self.weight * softened(ctx.task, outputs, dense, targets, self.temperature)
            if self.weight == 1:
                return distance
            return distance + (1 - self.weight) * ctx.task.training_loss(outputs, targets)

        train(pruned.network, ctx, self, loss=loss)


def softened(task: Task, outputs: Any, dense: Any, targets: Any, temperature: float) -> Tensor:
    """Divergence of the outputs from the dense ones, both divided by the temperature T, times T², (N,).

    T² keeps the gradients as large as they are at 1. A divergence that dividing does not change needs none.
    """
    import torch

    if temperature == 1:
        return divergences(task, outputs, dense, targets)
    cooler, cold = (mapped(lambda tensor: tensor / temperature, each) for each in (outputs, dense))
    soft = divergences(task, cooler, cold, targets)
    with torch.no_grad():
        scaleless = torch.allclose(divergences(task, outputs, dense, targets), soft, rtol=1e-3, atol=0)
    return soft if scaleless else soft * temperature**2
