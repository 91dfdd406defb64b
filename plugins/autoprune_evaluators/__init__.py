"""First-party evaluators."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The evaluators of this package."""
    return ()
