"""What may stand where, by the annotations of pydantic models."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel


def flat(annotation: Any) -> Iterator[Any]:
    """The types of a union, without what they are annotated with."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from flat(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from flat(member)
    else:
        yield annotation


def inside(kind: Any, part: str | int) -> Iterator[Any]:
    """The types that may stand under a key, or at an index, of that type."""
    if is_model(kind):
        for name, field in kind.model_fields.items():
            if part in (name, field.alias):
                yield from flat(field.annotation)
    elif arguments := typing.get_args(kind):
        yield from flat(arguments[0] if isinstance(part, int) or is_list(kind) else arguments[-1])


def is_model(kind: Any) -> bool:
    """Whether it is a pydantic model."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def is_list(kind: Any) -> bool:
    """Whether it is written as a list."""
    return (typing.get_origin(kind) or kind) in (list, tuple, set, frozenset)
