"""First-party recoveries: none, bn-recalibration, repair, fine-tune, distill."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The recoveries of this package."""
    from autoprune_recoveries.bn_recalibration import BatchNormRecalibration
    from autoprune_recoveries.distill import Distill
    from autoprune_recoveries.fine_tune import FineTune
    from autoprune_recoveries.nothing import NoRecovery
    from autoprune_recoveries.repair import Repair

    return NoRecovery, BatchNormRecalibration, Repair, FineTune, Distill
