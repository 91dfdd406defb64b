"""Cut everything at once, then recover."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from autoprune.plugin import Candidate, Recoveries, Strategy

if TYPE_CHECKING:
    from autoprune.plugin import PruneContext, Pruned


class OneShot(Strategy):
    """Keeps the best units of each group by the dense model's scores, then recovers once."""

    name = "one-shot"

    recover: Recoveries = Field(default=(), description="Wins back what the cut cost: one, or several in sequence.")

    def prune(self, candidate: Candidate, ctx: PruneContext) -> Pruned:
        """Rank, cut, recover."""
        pruned = ctx.start()
        pruned = ctx.cut(pruned, ctx.select(ctx.score(pruned), candidate.cut_units))
        for recovery in self.recover:
            recovery.recover(pruned, ctx)
        return pruned
