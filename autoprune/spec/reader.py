"""YAML text to plain data, with every mistake of form at its own line and column.

The spec is read from ruamel.yaml's parsing events, not composed into nodes: an alias can then expand to nothing, depth
is bounded, and reading goes on behind a mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, events
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError

from autoprune.errors import Mistake
from autoprune.spec.document import Document, KeyPath
from autoprune.spec.overrides import Override, apply_overrides, split_override
from autoprune.spec.scalars import expand, is_placeholder, read_scalar
from autoprune.spec.secrets import holds_password, masked

MAX_BYTES = 200_000
MAX_DEPTH = 32
MAX_NODES = 20_000
_HALF = re.compile("[\ud800-\udfff]")

_HINTS = {
    "'\\t'": "a tab cannot indent; use spaces",
    "expected chomping": 'quote text that begins with > or |, such as ">= 0.8"',
    "mapping values are not allowed": "a value that holds ': ' must be quoted; if it holds none, mend the indentation",
    "expected '<document start>'": "this does not continue what stands above it; mend the indentation",
    "expected <block end>": "this does not continue what stands above it; mend the indentation",
    "while scanning an alias": "quote text that begins with *",
    "while scanning an anchor": "quote text that begins with &",
    "that cannot start any token": "quote text that begins with it",
}


def read_document(
    path: str | Path, overrides: Sequence[str] = (), *, folder: Path | None = None
) -> tuple[Document, list[Mistake]]:
    """Read a spec's file.

    Args:
        path: The file; UTF-8, at most 200 kB.
        overrides: ``path.to.key=value`` to lay over it; the value is YAML.
        folder: Where the spec's relative paths start; the file's folder if None.

    Returns:
        The document, whose data is None where it cannot be read at all, and every mistake of form.
    """
    file = str(path)
    folder = folder or Path(path).absolute().parent
    nothing = Document(file=file, folder=folder, overrides=tuple(overrides))
    try:
        with Path(path).open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return nothing, [Mistake((), f"cannot be read: {reason}", file)]
    if len(raw) > MAX_BYTES:
        return nothing, [Mistake((), f"is larger than {MAX_BYTES // 1_000} kB, too large for a spec", file)]
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _position(raw[: error.start].decode())
        return nothing, [Mistake((), "is not UTF-8 text", file, line, column)]
    return read_text(text, overrides, file=file, folder=folder)


def read_text(
    text: str, overrides: Sequence[str] = (), *, file: str = "<spec>", folder: Path | None = None
) -> tuple[Document, list[Mistake]]:
    """`read_document` for text that is in memory already."""
    reader = _Reader(file)
    data = reader.read(text)
    if reader.complete and not isinstance(data, dict):
        what = "is empty" if data is None else "must be a mapping of keys, such as name: my-search"
        reader.note((), what, reader.marks.get((), (1, 1)))
        data = None
    document = Document(
        data=data,
        text=text,
        file=file,
        folder=folder or Path.cwd(),
        marks=reader.marks,
        overrides=tuple(overrides),
        unreadable=frozenset(reader.unreadable),
    )
    read, bad, secret = _read_overrides(overrides)
    secret |= reader.secret or holds_password(text)
    document, more = apply_overrides(document, read)
    # An override heals the value that it replaces.
    kept = [m for m in reader.mistakes if m.path not in reader.unreadable or m.path in document.unreadable]
    return replace(document, secret=secret), [*kept, *bad, *more]


def _read_overrides(overrides: Sequence[str]) -> tuple[list[Override], list[Mistake], bool]:
    read: list[Override] = []
    mistakes: list[Mistake] = []
    secret = any(map(holds_password, overrides))
    for text in overrides:
        file = f"--set {masked(text, whole=True)}"
        split = split_override(text)
        if split is None:
            form = 'write path.to.key=value, with keys that hold a dot in quotes: groups."layer1.*".high=0.5'
            mistakes.append(Mistake((), form, file))
            continue
        path, value = split
        reader = _Reader(file)
        read.append(Override(text, path, reader.read(value)))
        secret |= reader.secret
        mistakes += [Mistake(path, mistake.message, file) for mistake in reader.mistakes]
    return read, mistakes, secret


class _StopReadingError(Exception):
    """What stands behind this point cannot be read."""


class _Reader:
    """Builds the data of one document, and keeps what it meets on the way."""

    def __init__(self, file: str) -> None:
        self.mistakes: list[Mistake] = []
        self.marks: dict[KeyPath, tuple[int, int]] = {}
        self.unreadable: set[KeyPath] = set()
        self.secret = False
        """Whether a password stands in it, and not just the name of an environment variable."""
        self.complete = False
        """Whether the text was read to its end."""
        self._file = file
        self._nodes = 0

    def note(self, path: KeyPath, message: str, position: tuple[int, int]) -> None:
        self.mistakes.append(Mistake(path, message, self._file, *position))

    def read(self, text: str) -> Any:
        """The data; None where the text is not YAML."""
        self._events: Iterator[Any] = YAML(typ="safe", pure=True).parse(text)
        self._last = (1, 1)
        try:
            data = self._read_stream()
        except _StopReadingError:
            return None
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self.note((), _in_plain_words(error, text), (mark.line + 1, mark.column + 1) if mark else self._last)
            return None
        except ReaderError as error:
            position = _position(text[: error.position])
            self.note((), f"not YAML: the character {text[error.position]!r} may not stand in a file", position)
            return None
        except Exception as error:  # noqa: BLE001  ruamel.yaml fails in its own ways on some malformed text
            self.note((), f"not YAML: {error or type(error).__name__}", self._last)
            return None
        self.complete = True
        return data

    def _next(self) -> Any:
        event = next(self._events)
        self._last = _at(event)
        return event

    def _read_stream(self) -> Any:
        data, documents = None, 0
        while not isinstance(event := self._next(), events.StreamEndEvent):
            if isinstance(event, events.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.note((), "a second document begins here; a spec is one document", _at(event))
                    raise _StopReadingError
            elif isinstance(event, events.NodeEvent):
                data = self._read_node(event, ())
        return data

    def _read_node(self, event: Any, path: KeyPath) -> Any:
        position = _at(event)
        self.marks.setdefault(path, position)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self.note(path, f"is the {MAX_NODES:,}th value, too many for a spec", position)
            raise _StopReadingError
        if isinstance(event, events.AliasEvent):
            self._refuse(path, "aliases are not read; quote text that begins with *", event)
            if event.anchor.endswith(":"):  # was meant as a key; what follows it makes no sense
                raise _StopReadingError
            return None
        self._refuse_properties(event, path)
        if isinstance(event, events.ScalarEvent):
            return self._read_scalar(event, path)
        if len(path) >= MAX_DEPTH:
            self.note(path, f"is nested deeper than {MAX_DEPTH} levels", position)
            raise _StopReadingError
        return self._read_mapping(path) if isinstance(event, events.MappingStartEvent) else self._read_list(path)

    def _read_scalar(self, event: Any, path: KeyPath) -> Any:
        plain = not event.style
        self.secret |= holds_password(event.value, whole=True)
        if (value := _whole(event.value)) is None:
            return self._refuse(path, "holds half of a character (\\ud800 to \\udfff)", event)
        if "${" not in value:
            return read_scalar(value) if plain else value
        text, wrong = expand(value)
        if wrong:
            return self._refuse(path, "; ".join(dict.fromkeys(wrong)), event)
        return read_scalar(text) if plain and is_placeholder(event.value) else text

    def _read_list(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), events.SequenceEndEvent):
            items.append(self._read_node(event, (*path, len(items))))
        return items

    def _read_mapping(self, path: KeyPath) -> dict[str, Any]:
        """Keys are read as the text that they are: a layer called 0 is the layer "0"."""
        found: dict[str, Any] = {}
        while not isinstance(event := self._next(), events.MappingEndEvent):
            if not isinstance(event, events.ScalarEvent):
                self.note(path, "a key must be plain text; quote one that begins with *, { or [", _at(event))
                if isinstance(event, events.AliasEvent):
                    raise _StopReadingError
                self._skip(event)
                self._skip(self._next())
                continue
            key = _whole(event.value)
            inner = (*path, key or "")
            self._refuse_properties(event, inner)
            if key is None:
                self.note(path, "a key holds half of a character (\\ud800 to \\udfff)", _at(event))
                self._skip(self._next())
            elif key in found:
                self.note(inner, f"this key stands in line {self.marks[inner][0]} already", _at(event))
                self._skip(self._next())
            else:
                self.marks[inner] = _at(event)
                found[key] = self._read_node(self._next(), inner)
        return found

    def _skip(self, event: Any) -> None:
        """Pass over a whole node."""
        depth = 0
        while True:
            depth += isinstance(event, events.CollectionStartEvent) - isinstance(event, events.CollectionEndEvent)
            if depth == 0:
                return
            if depth > MAX_DEPTH:
                raise _StopReadingError
            event = self._next()

    def _refuse_properties(self, event: Any, path: KeyPath) -> None:
        if event.anchor is not None:
            self.note(path, "anchors are not read; quote text that begins with &", _at(event))
        if event.tag is not None:
            self.note(path, "tags are not read; quote text that begins with !", _at(event))

    def _refuse(self, path: KeyPath, message: str, event: Any) -> None:
        self.note(path, message, _at(event))
        self.unreadable.add(path)


def _whole(text: str) -> str | None:
    """A text whose characters may be written in halves, as JSON does with many; None where a half is alone."""
    if not _HALF.search(text):
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return None


def _at(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _position(before: str) -> tuple[int, int]:
    """Line and column of what follows that text."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _in_plain_words(error: MarkedYAMLError, text: str) -> str:
    problem = (error.problem or "").replace("('", "'").replace("',)", "'")
    context = error.context or ""
    for sign, hint in _HINTS.items():
        if sign in problem or sign in context:
            return f"not YAML: {problem}; {hint}"
    mark = error.problem_mark
    if mark and "${" in "".join(text.split("\n")[mark.line : mark.line + 1])[: mark.column + 1]:
        return f'not YAML: {problem}; inside brackets quote a placeholder: "${{NAME}}"'
    begin = f", {context} that begins in line {error.context_mark.line + 1}" if error.context_mark else ""
    return f"not YAML: {problem}{begin}"
