"""First-party executors: local."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The executors of this package."""
    from autoprune_executors.local import Local

    return (Local,)
