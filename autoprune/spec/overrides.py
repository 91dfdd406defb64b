"""``--set path.to.key=value``: values laid over a document."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoprune.errors import Mistake, dotted
from autoprune.spec.document import Document, KeyPath
from autoprune.spec.secrets import masked

_PART = re.compile(r"""(?:"([^"]+)"|'([^']+)'|([^."'=]+))(?P<end>[.=])""")


@dataclass(frozen=True)
class Override:
    """One override, read."""

    text: str
    """As the user wrote it."""
    path: tuple[str, ...]
    value: Any


def split_override(text: str) -> tuple[tuple[str, ...], str] | None:
    """The path and the value's text; None if the override is malformed.

    A key that holds a dot stands in quotes: ``search_space.groups."layer1.*".high=0.5``.
    """
    parts: list[str] = []
    position = 0
    while match := _PART.match(text, position):
        parts.append(match[1] or match[2] or match[3])
        position = match.end()
        if match["end"] == "=":
            return tuple(parts), text[position:]
    return None


def apply_overrides(document: Document, overrides: Sequence[Override]) -> tuple[Document, list[Mistake]]:
    """Lay values over the document's data; an unreadable document stays as it is."""
    if not isinstance(document.data, dict):
        return document, []
    data = copy.deepcopy(document.data)
    mistakes: list[Mistake] = []
    for override in overrides:
        path, wrong = _set(data, override)
        if wrong:
            mistakes.append(Mistake(path, wrong, f"--set {masked(override.text, whole=True)}"))
            continue
        document = replace(
            document,
            marks={p: mark for p, mark in document.marks.items() if p[: len(path)] != path},
            unreadable=frozenset(p for p in document.unreadable if p[: len(path)] != path),
            overridden={p: text for p, text in document.overridden.items() if p[: len(path)] != path}
            | {path: override.text},
        )
    return replace(document, data=data), mistakes


def _set(data: dict[str, Any], override: Override) -> tuple[KeyPath, str | None]:
    """Set one value in place; the path with list indices as numbers, and what is wrong with it."""
    node: Any = data
    path: KeyPath = ()
    for depth, part in enumerate(override.path):
        key: str | int = part
        if isinstance(node, list):
            if not (part.isdecimal() and int(part) < len(node)):
                return (*path, part), f"{dotted(path)} is a list of {len(node)}; its items are numbered from 0"
            key = int(part)
        elif not isinstance(node, dict):
            return path, f"is {masked(repr(node), whole=True):.100}, which holds no {part!r}"
        path = (*path, key)
        if depth == len(override.path) - 1:
            node[key] = override.value
            break
        if isinstance(node, dict) and node.get(part) is None:
            node[part] = {}
        node = node[key]
    return path, None
