"""A YAML document as plain data, with the line and column of every key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoprune.errors import Mistake

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """What was read, before it means anything."""

    data: Any = None
    text: str = ""
    file: str = "<spec>"
    """As the user named it; stands in front of every error."""
    folder: Path = field(default_factory=Path.cwd)
    """Relative paths of the spec start here."""
    marks: Mapping[KeyPath, tuple[int, int]] = field(default_factory=dict)
    """Line and column, from 1, of every key and list item."""

    def mistake(self, path: KeyPath, message: str) -> Mistake:
        """A mistake at that key, or at its nearest ancestor that stands in the file."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.marks:
                line, column = self.marks[path[:end]]
                return Mistake(path, message, self.file, line, column)
        return Mistake(path, message, self.file)
