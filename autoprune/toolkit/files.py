"""Paths of a spec, what to say when they lead nowhere, and files that somebody else may have made."""

from __future__ import annotations

import difflib
import errno
import json
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autoprune.errors import DataError
from autoprune.plugin import SourceContext

_LONGEST_NAME = 100


def existing(path: Path, ctx: SourceContext) -> Path:
    """The path, relative to the spec's folder.

    Raises:
        DataError: There is nothing there; the message tells the first part that is missing, and a near name.
    """
    full = ctx.folder / path.expanduser()
    if full.is_file() or full.is_dir():
        return full
    if full.exists():
        raise DataError(f"{full} is neither a file nor a folder")
    parent = full.parent
    missing = full
    while not parent.exists():
        parent, missing = parent.parent, parent
    if not parent.is_dir():
        raise DataError(f"{full}: {parent} is a file, not a folder")
    raise DataError(
        f"{full}: there is no {missing.name!r} in {parent}{near(missing.name, (p.name for p in parent.iterdir()))}"
    )


def plain_file(path: Path, *, most: int | None = None) -> Path:
    """The path of a plain file: to open a pipe or a device may wait for ever, or never end.

    Args:
        path: The file.
        most: Bytes that it may have.

    Raises:
        OSError: It is not there, is no plain file, or is larger.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "is no plain file", str(path))
    if most is not None and found.st_size > most:
        raise OSError(errno.EFBIG, f"is larger than {most / (1 << 20):g} MB", str(path))
    return path


def json_of(text: str | bytes | bytearray) -> Any:
    """What JSON says; the numbers that it does not know, NaN and Infinity, are refused.

    Raises:
        ValueError: It is none, or nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def malformed(error: Exception) -> str:
    """What is wrong with data that were read, in a line.

    Args:
        error: What reading them raised; of pydantic the first fault counts.
    """
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])):.200}: {first['msg']:.300}"
    return f"{type(error).__name__}: {' '.join(str(error).split()):.300}"


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


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
    close = difflib.get_close_matches(name, names, n=1) if len(name) <= _LONGEST_NAME else []
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
