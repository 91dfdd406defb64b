"""First-party strategies: one-shot."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The strategies of this package."""
    from autoprune_strategies.one_shot import OneShot

    return (OneShot,)
