"""Train the pruned network on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoprune.plugin import Recovery
from autoprune.toolkit.training import Training, train

if TYPE_CHECKING:
    from autoprune.plugin import PruneContext, Pruned


class FineTune(Training, Recovery):
    """A short training of all weights with the task's loss on the train split."""

    name = "fine-tune"

    def recover(self, pruned: Pruned, ctx: PruneContext) -> None:
        """Train the parameters that require gradients, or all of them if none does.

        Raises:
            TrialError: The loss became infinite or NaN.
        """
        train(pruned.network, ctx, self)
