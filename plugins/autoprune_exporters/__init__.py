"""First-party exporters."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The exporters of this package."""
    return ()
