"""Paths of a spec, and what to say when they lead nowhere."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from autoprune.errors import DataError
from autoprune.plugin import SourceContext


def existing(path: Path, ctx: SourceContext) -> Path:
    """The path, relative to the spec's folder.

    Raises:
        DataError: There is nothing there; the message tells the first part that is missing, and a near name.
    """
    full = ctx.folder / path.expanduser()
    if full.exists():
        return full
    parent = full.parent
    missing = full
    while not parent.exists():
        parent, missing = parent.parent, parent
    if not parent.is_dir():
        raise DataError(f"{full}: {parent} is a file, not a folder")
    raise DataError(
        f"{full}: there is no {missing.name!r} in {parent}{near(missing.name, (p.name for p in parent.iterdir()))}"
    )


def found_paths(args: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A callable's arguments, where every text that names a file or folder beside the spec became its full path.

    Texts in lists and mappings are looked up, too; what names nothing there stays as it is.

    Args:
        args: Of the spec: JSON types.
        folder: Of the spec.
    """
    return {name: _found(value, folder) for name, value in args.items()}


def near(name: str, known: Iterable[str]) -> str:
    """`` — did you mean …?``, or the list of what is known (its first ten)."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {listed(names)}" if names else ""


def listed(names: Iterable[str], *, most: int = 10) -> str:
    """Comma-separated, cut off after ``most`` names."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def _found(value: Any, folder: Path) -> Any:
    if isinstance(value, str):
        full = folder.resolve() / value
        try:
            return str(full) if value and full.exists() else value
        except (OSError, ValueError):  # a text that no file could be called
            return value
    if isinstance(value, list | tuple):
        return [_found(each, folder) for each in value]
    if isinstance(value, Mapping):
        return found_paths(value, folder)
    return value
