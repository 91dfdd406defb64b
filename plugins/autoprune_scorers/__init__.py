"""First-party scorers: l1, l2, random, bn-scale, taylor, obs."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The scorers of this package."""
    from autoprune_scorers.batch_norm import BatchNormScale
    from autoprune_scorers.magnitude import L1, L2
    from autoprune_scorers.obs import OBS
    from autoprune_scorers.random_order import RandomOrder
    from autoprune_scorers.taylor import Taylor

    return L1, L2, RandomOrder, BatchNormScale, Taylor, OBS
