"""Names of a spec's components of one kind, for folders and documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from autoprune.plugin import Component

C = TypeVar("C", bound=Component)


def numbered(components: Iterable[C]) -> dict[str, C]:
    """Components by name, in the spec's order; a second one of a name is ``name-2``."""
    named: dict[str, C] = {}
    counts: dict[str, int] = {}
    for component in components:
        count = counts[component.name] = counts.get(component.name, 0) + 1
        named[component.name if count == 1 else f"{component.name}-{count}"] = component
    return named
