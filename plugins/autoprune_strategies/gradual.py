"""Cut along a training, much at its beginning and little at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from autoprune.plugin import Candidate, Recoveries, Strategy
from autoprune.toolkit.training import Course, Training
from autoprune_strategies._stages import cubic, cut_further, recovered, refusal, stages

if TYPE_CHECKING:
    from autoprune.plugin import Data, PruneContext, Pruned


class Gradual(Training, Strategy):
    """One training, which small cuts interrupt; each is scored by the weights as they are then.

    Zhu & Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", arXiv:1710.01878:
    after cut t of n the share 1 - (1 - t/n)³ of all units that go is gone. It is meant for weights, and as good for
    channels.
    """

    name = "gradual"

    cuts: int = Field(default=8, ge=1, description="Number of cuts.")
    until: float = Field(
        default=0.75, gt=0, le=1, description="Share of the training over which they are spread; the rest recovers."
    )
    recover: Recoveries = Field(default=(), description="Runs after the training: one, or several in sequence.")

    def prune(self, candidate: Candidate, ctx: PruneContext) -> Pruned:
        """Rank, cut, train a little, and again; then train to the end and recover.

        Raises:
            TrialError: The loss became infinite or NaN.
        """
        course, pruned, before = Course(ctx, self), ctx.start(), 0
        for number, gone in enumerate(stages(ctx.groups, candidate.cut_units, cubic, self.cuts), start=1):
            if sum(gone.values()) > before:
                pruned, before = cut_further(pruned, gone, ctx), sum(gone.values())
            course.run(pruned.network, until=self.until * number / self.cuts)
        course.run(pruned.network)
        recovered(pruned, self.recover, ctx)
        return pruned

    def refuses(self, data: Data) -> str | None:
        """Why it cannot train on that data, or a recovery refuses it; None when neither holds."""
        return super().refuses(data) or refusal(data, self.recover)
