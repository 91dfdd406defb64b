"""First-party strategies (one-shot) and recoveries (none, bn-recalibration, fine-tune)."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The strategies and recoveries of this package."""
    from autoprune_strategies.bn_recalibration import BatchNormRecalibration
    from autoprune_strategies.fine_tune import FineTune
    from autoprune_strategies.one_shot import NoRecovery, OneShot

    return OneShot, NoRecovery, BatchNormRecalibration, FineTune
