"""A YAML document as plain data, with the line and column of every key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoprune.errors import Mistake
from autoprune.spec.secrets import masked

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """What was read, before it means anything.

    A mistake in what a value says is placed at the value's key (or at the list item), a missing key at the mapping
    that lacks it, and what a ``--set`` brought at that ``--set``.
    """

    data: Any = None
    """Mappings, lists, text, numbers, truth values and None; None as a whole where the file cannot be read."""
    text: str = ""
    """The file as it was read: without overrides, placeholders in place."""
    file: str = "<spec>"
    """As the user named it; stands in front of every error."""
    folder: Path = field(default_factory=Path.cwd)
    """Relative paths of the spec start here."""
    marks: Mapping[KeyPath, tuple[int, int]] = field(default_factory=dict)
    """Line and column, from 1, of every key and list item."""
    overrides: tuple[str, ...] = ()
    """The ``path.to.key=value`` that were laid over the file."""
    overridden: Mapping[KeyPath, str] = field(default_factory=dict)
    """The override behind each path that one has set."""
    plugins: tuple[Path, ...] | None = None
    """Plugin files that go with it, loaded already once; None where only those that it names do."""
    secret: bool = False
    """Whether a password stands in the file or in an override: then neither is written anywhere."""
    unreadable: frozenset[KeyPath] = frozenset()
    """Values that could not be read and stand as None: what else is wrong with them is not worth telling."""

    def mistake(self, path: KeyPath, message: str) -> Mistake:
        """A mistake at that key, or at its nearest ancestor that stands in the file."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.overridden:
                return Mistake(path, message, f"--set {masked(self.overridden[path[:end]], whole=True)}")
            if path[:end] in self.marks:
                line, column = self.marks[path[:end]]
                return Mistake(path, message, self.file, line, column)
        return Mistake(path, message, self.file)

    def reads(self, path: KeyPath) -> bool:
        """Whether neither the value at that path nor one around it was unreadable."""
        return not any(path[:end] in self.unreadable for end in range(len(path) + 1))
