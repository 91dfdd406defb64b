"""Cut everything at once, then recover."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from autoprune.plugin import Candidate, PrunedModel, Recovery, Strategy

if TYPE_CHECKING:
    from torch import nn

    from autoprune.plugin import PruneContext


class NoRecovery(Recovery):
    """Leaves the network as the cut made it."""

    name = "none"

    def recover(self, network: nn.Module, ctx: PruneContext) -> None:
        """Nothing to do."""


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
