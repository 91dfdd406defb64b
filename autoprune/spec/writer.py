"""Plain data to YAML text that reads back as the same data."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from autoprune.spec.scalars import read_scalar

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*")


def write_text(data: Mapping[str, Any]) -> str:
    """YAML of mappings, lists and scalars, in their order; what looks like a placeholder is escaped.

    Scalars are written as JSON, which YAML 1.2 contains; ruamel.yaml's own writer loses some control characters.
    """
    return "".join(f"{line}\n" for line in _lines(data)) if data else "{}\n"


def _lines(value: Any) -> Iterator[str]:
    """The lines of a mapping or list that is not empty."""
    items = value.items() if isinstance(value, Mapping) else ((None, item) for item in value)
    for key, item in items:
        start = "-" if key is None else f"{_text(key)}:"
        if not isinstance(item, Mapping | list) or not item:
            yield f"{start} {_scalar(item)}"
        elif key is None:
            first, *rest = _lines(item)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
        else:
            yield start
            yield from (f"  {line}" for line in _lines(item))


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _text(value.replace("${", "$${"))
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
    return json.dumps(value)


def _text(text: str) -> str:
    """Quoted where it would be read as anything but this text."""
    if _PLAIN.fullmatch(text) and read_scalar(text) == text:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)
