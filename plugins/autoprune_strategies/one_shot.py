"""Cut everything at once, then recover."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from autoprune.plugin import Candidate, PrunedModel, Recovery, Strategy
from autoprune_recoveries.nothing import NoRecovery

if TYPE_CHECKING:
    from autoprune.plugin import PruneContext


class OneShot(Strategy):
    """Keeps the best units of each group by the dense model's scores, then recovers once."""

    name = "one-shot"

    recover: Recovery = Field(default=NoRecovery(), description="Wins back what the cut cost.")

    def prune(self, candidate: Candidate, ctx: PruneContext) -> PrunedModel:
        """Rank, cut, recover."""
        kept = ctx.select(ctx.scores(), candidate.cut_units)
        network = ctx.cut(kept)
        self.recover.recover(network, ctx)
        return PrunedModel(network=network, kept=kept)
