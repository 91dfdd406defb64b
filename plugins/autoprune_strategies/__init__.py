"""First-party strategies: one-shot, iterative, gradual, pre-prune, sparse-training."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The strategies of this package."""
    from autoprune_strategies.gradual import Gradual
    from autoprune_strategies.iterative import Iterative
    from autoprune_strategies.one_shot import OneShot
    from autoprune_strategies.pre_prune import PrePrune
    from autoprune_strategies.sparse_training import SparseTraining

    return OneShot, Iterative, Gradual, PrePrune, SparseTraining
