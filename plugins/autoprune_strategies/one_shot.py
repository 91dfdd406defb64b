"""Cut everything at once, then recover."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from autoprune.plugin import Candidate, Recoveries, Strategy
from autoprune_strategies._stages import cut_further, recovered, refusal

if TYPE_CHECKING:
    from autoprune.plugin import Data, PruneContext, Pruned


class OneShot(Strategy):
    """Keeps the best units of each group by the dense model's scores, then recovers once."""

    name = "one-shot"

    recover: Recoveries = Field(default=(), description="Wins back what the cut cost: one, or several in sequence.")

    def prune(self, candidate: Candidate, ctx: PruneContext) -> Pruned:
        """Rank, cut, recover."""
        pruned = cut_further(ctx.start(), candidate.cut_units, ctx)
        recovered(pruned, self.recover, ctx)
        return pruned

    def refuses(self, data: Data) -> str | None:
        """Why one of its recoveries refuses the data; None when none does."""
        return refusal(data, self.recover)
