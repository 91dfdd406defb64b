"""What is told from an object alone: whether it is a metric or a split, and what to call it."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar

from autoprune.plugin import Component, hookimpl

_FED = ("update", "compute", "reset")
"""What a metric has that is fed batch by batch, as those of torchmetrics are."""


class Brought:
    """A plugin of one class, which Python handed over."""

    distribution: ClassVar[str] = "handed over in Python"

    def __init__(self, component: type[Component]) -> None:
        self._component = component

    @hookimpl
    def autoprune_components(self) -> Iterable[type[Component]]:
        """The class."""
        return (self._component,)


def is_metric(value: object) -> bool:
    """Whether it can be called with outputs and targets, or is fed with them."""
    if isinstance(value, Component) or (isinstance(value, type) and issubclass(value, Component)):
        return False
    return callable(value) or all(callable(getattr(value, name, None)) for name in _FED)


def metric_name(function: Any) -> str:
    """What a function or class is called; of an instance its class."""
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def is_split(name: str, value: object) -> bool:
    """Whether what stands under an option's name is a split: of ``validation`` and ``test`` a number is no split."""
    return name in ("validation", "test") and not isinstance(value, numbers.Real)


def importable_name(value: Any) -> str:
    """``module:callable``, as a factory's target says it."""
    return f"{getattr(value, '__module__', '')}:{getattr(value, '__qualname__', type(value).__name__)}"
