"""Cut everything at once, then recover."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from autoprune.plugin import Candidate, PrunedModel, Recovery, Strategy

if TYPE_CHECKING:
    from torch import Tensor, nn

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
        scores = ctx.scores(candidate.scorer)
        kept = {
            group.name: _best(scores[group.name], group.units - candidate.cut_units.get(group.name, 0))
            for group in ctx.groups
        }
        network = ctx.cut(kept)
        self.recover.recover(network, ctx)
        return PrunedModel(network=network, kept=kept)


def _best(scores: Tensor, count: int) -> Tensor:
    """Sorted indices of the ``count`` highest scores; of equal ones the first stay."""
    order = scores.cpu().argsort(descending=True, stable=True)
    return order[:count].sort().values
