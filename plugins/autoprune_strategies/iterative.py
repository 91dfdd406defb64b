"""Cut a little, recover, and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from autoprune.plugin import Candidate, Recoveries, Strategy
from autoprune_strategies._stages import cut_further, geometric, linear, recovered, refusal, stages

if TYPE_CHECKING:
    from autoprune.plugin import Data, PruneContext, Pruned


class Iterative(Strategy):
    """Rounds of score, cut and recover, each on the network that the round before left.

    Han et al., "Learning both Weights and Connections for Efficient Neural Networks", arXiv:1506.02626; with
    single channels in place of weights Molchanov et al., arXiv:1611.06440. One round is one-shot.
    """

    name = "iterative"

    rounds: int = Field(default=3, ge=1, description="How often it scores, cuts and recovers.")
    schedule: Literal["linear", "geometric"] = Field(
        default="linear",
        description="Units that go in a round: linear, equally many; geometric, the same share of those that are left.",
    )
    recover: Recoveries = Field(
        default=(), description="Wins back what a round's cut cost: one, or several in sequence."
    )
    finish: Recoveries = Field(default=(), description="Runs once, after the last round: one, or several in sequence.")

    def prune(self, candidate: Candidate, ctx: PruneContext) -> Pruned:
        """Rounds of rank, cut, recover."""
        pruned, before = ctx.start(), 0
        planned = stages(
            ctx.groups, candidate.cut_units, linear if self.schedule == "linear" else geometric, self.rounds
        )
        for number, gone in enumerate(planned):
            if sum(gone.values()) > before:  # there may be fewer units to cut than rounds
                pruned = cut_further(pruned, gone, ctx)
                recovered(pruned, self.recover, ctx, stage=number)
                before = sum(gone.values())
        recovered(pruned, self.finish, ctx, stage=self.rounds)
        return pruned

    def refuses(self, data: Data) -> str | None:
        """Why one of its recoveries refuses the data; None when none does."""
        return refusal(data, self.recover, self.finish)
