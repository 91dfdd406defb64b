"""First-party transforms: low-rank."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The transforms of this package."""
    from autoprune_transforms.low_rank import LowRank

    return (LowRank,)
