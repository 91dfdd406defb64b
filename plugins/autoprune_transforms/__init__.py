"""First-party transforms."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The transforms of this package."""
    return ()
