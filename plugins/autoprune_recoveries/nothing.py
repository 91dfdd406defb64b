"""No recovery."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoprune.plugin import Recovery

if TYPE_CHECKING:
    from autoprune.plugin import PruneContext, Pruned


class NoRecovery(Recovery):
    """Leaves the network as the cut made it."""

    name = "none"

    def recover(self, pruned: Pruned, ctx: PruneContext) -> None:
        """Nothing to do."""
