"""First-party samplers."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The samplers of this package."""
    return ()
