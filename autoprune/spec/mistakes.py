"""pydantic's errors as mistakes: one line each, in plain words, at the key to blame."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from autoprune.errors import Mistake
from autoprune.spec.annotations import inside, is_list, is_model
from autoprune.spec.document import Document, KeyPath
from autoprune.spec.model import Spec
from autoprune.spec.secrets import masked

Concrete = Callable[[type[BaseModel], Any], type[BaseModel]]
"""The class that data of a model is validated by: itself, or for a contract the component that the data names."""

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "dict": "a mapping",
    "model": "a mapping",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
}
MOST_TOLD = 100
"""Mistakes: whoever has more of them has one that makes the others."""
_LONGEST_NAME = 100
_LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("above", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("below", "lt"),
}


def parse(document: Document) -> tuple[Spec | None, list[Mistake]]:
    """Read a document as a spec.

    Returns:
        The spec, None if there is anything wrong with it or if the document has no data; and what is wrong.
    """
    if document.data is None:
        return None, []
    try:
        return Spec.model_validate(document.data, context=document), []
    except ValidationError as error:
        return None, mistakes_of(error, document, data=document.data, model=Spec)


def mistakes_of(
    error: ValidationError,
    document: Document,
    *,
    data: Any,
    model: type[BaseModel],
    place: Callable[[KeyPath], KeyPath] = lambda path: path,
    concrete: Concrete = lambda model, _: model,
) -> list[Mistake]:
    """A validation's errors, one mistake per place.

    Args:
        error: What validation raised.
        document: Where the data stands.
        data: What was validated.
        model: What it was validated by.
        place: Tells where in the document a path of the data stands.
        concrete: Tells the class behind a contract.
    """
    every = error.errors()
    told = every[:MOST_TOLD]
    faults = [_Fault.of(line, data, lambda path: _known_keys(model, path, data, concrete)) for line in told]
    places: dict[KeyPath, list[_Fault]] = {}
    for fault in _without_other_branches(faults):
        places.setdefault(fault.path, []).append(fault)
    placed = [(place(path), _joined(here)) for path, here in places.items()]
    if len(every) > MOST_TOLD:
        placed.append((place(()), f"has {len(every) - MOST_TOLD:,} more mistakes; mend these first"))
    return [document.mistake(path, message) for path, message in placed if document.reads(path)]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, if there is one."""
    if len(name) > _LONGEST_NAME:
        return None
    folded = {other.casefold(): other for other in sorted(known)}
    name = name.casefold()
    begun = [other for other in folded if len(name) > 2 and other.startswith(name)]
    close = begun if len(begun) == 1 else difflib.get_close_matches(name, folded, n=1)
    return folded[close[0]] if close else None


def near(name: str, known: Iterable[str]) -> str:
    """``; did you mean …?``, or the list of what is known."""
    names = sorted(known)
    if close := nearest(name, names):
        return f"; did you mean {close!r}?"
    return f"; known: {', '.join(names)}" if names else ""


@dataclass(frozen=True)
class _Fault:
    path: KeyPath
    """Where in the data; for a missing key with that key."""
    union: KeyPath | None
    """Where the nearest choice between several types was, that this fault is one branch of."""
    branch: str
    message: str
    kind: str | None
    """For a message of the form "must be …, not …", what it must be."""
    shown: str

    @classmethod
    def of(cls, line: ErrorDetails, data: Any, known_keys: Callable[[KeyPath], Iterable[str]]) -> _Fault:
        """Read one of pydantic's errors; parts of its location that are no keys of the data name union branches."""
        node: Any = data
        path: KeyPath = ()
        union: KeyPath | None = None
        branch = ""
        for position, part in enumerate(line["loc"]):
            if part in _keys(node):
                path, node = (*path, part), node[part]
            elif line["type"] == "missing" and position == len(line["loc"]) - 1:
                path = (*path, part)
            elif union is None and part != "[key]":
                union, branch = path, str(part)
        if line["type"] == "unknown_component":
            path = (*path, "use")
        kind = _kind(line)
        message = _message(line, known_keys, path) if kind is None else ""
        return cls(path, union, branch, message, kind, _shown(line["input"]))


def _keys(node: Any) -> Iterable[Any]:
    return node if isinstance(node, Mapping) else range(len(node)) if isinstance(node, list | tuple) else ()


def _without_other_branches(faults: list[_Fault]) -> Iterator[_Fault]:
    """Of a union's branches only the one that got furthest is worth telling; where none got anywhere, all are."""
    depths: dict[KeyPath, dict[str, int]] = {}
    for fault in faults:
        if fault.union is not None:
            branches = depths.setdefault(fault.union, {})
            branches[fault.branch] = max(branches.get(fault.branch, 0), len(fault.path))
    for fault in faults:
        if fault.union is not None:
            branches = depths[fault.union]
            deepest = max(branches, key=lambda branch: branches[branch])
            if branches[deepest] > len(fault.union) and fault.branch != deepest:
                continue
        yield fault


def _joined(faults: list[_Fault]) -> str:
    kinds = list(dict.fromkeys(fault.kind for fault in faults if fault.kind))
    messages = list(dict.fromkeys(fault.message for fault in faults if fault.message))
    if kinds:
        quoted = re.findall(r"'([^']*)'", " ".join(kinds))
        close = nearest(faults[0].shown.strip("'"), quoted) if faults[0].shown.startswith("'") else None
        hint = f"; did you mean {close!r}?" if close else ""
        messages.append(f"must be {' or '.join(kinds)}, not {faults[0].shown}{hint}")
    return "; or ".join(messages)


def _kind(line: ErrorDetails) -> str | None:
    name, ctx = line["type"], line.get("ctx", {})
    if name in _LIMITS:
        words, key = _LIMITS[name]
        return f"{words} {ctx[key]:g}" if isinstance(ctx[key], float) else f"{words} {ctx[key]}"
    if name in ("literal_error", "enum"):
        return str(ctx["expected"])
    kind = _KINDS.get(name.split("_")[0]) if name.endswith(("_type", "_parsing", "_from_float", "_size")) else None
    if kind is None and line["msg"].startswith("Input should be "):
        return line["msg"].removeprefix("Input should be ")
    return kind


def _message(line: ErrorDetails, known_keys: Callable[[KeyPath], Iterable[str]], path: KeyPath) -> str:
    name, ctx = line["type"], line.get("ctx", {})
    if name == "missing":
        return "missing key" if isinstance(path[-1], str) else "missing item"
    if name == "extra_forbidden":
        return f"unknown key{near(str(path[-1]), known_keys(path[:-1]))}"
    if name.endswith("too_short") and ctx["min_length"] == 1:
        return "must not be empty"
    if name.endswith(("too_short", "too_long")):
        limit = f"at least {ctx['min_length']}" if name.endswith("too_short") else f"at most {ctx['max_length']}"
        return f"must have {limit} {'characters' if name.startswith('string') else 'items'}"
    if name in ("value_error", "assertion_error"):
        return str(ctx["error"])
    return line["msg"]


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, int) and abs(value) >= 10**40:
        return "a number of many digits"
    text = masked(repr(value), whole=True)
    return text if len(text) <= 40 else f"{text[:37]}…"


def _known_keys(model: type[BaseModel], path: KeyPath, data: Any, concrete: Concrete) -> set[str]:
    """The keys that the mapping at that path may have."""
    reached: list[Any] = [model]
    node = data
    for part in path:
        reached = [inner for kind in _taken(reached, node, concrete) for inner in inside(kind, part)]
        node = node[part]
    models = [kind for kind in _taken(reached, node, concrete) if is_model(kind)]
    return {field.alias or name for kind in models for name, field in kind.model_fields.items()}


def _taken(kinds: Iterable[Any], node: Any, concrete: Concrete) -> Iterator[Any]:
    """What data may be validated by; a mapping where a list may stand, by the type of its items."""
    for kind in kinds:
        items = inside(kind, 0) if isinstance(node, Mapping) and is_list(kind) else (kind,)
        yield from (concrete(each, node) if is_model(each) else each for each in items)
