"""What a rule is: how one operator couples units.

A rule gets the `Coupling`, the node and its arguments (tensors replaced by `Labels`) and returns the labels of the
node's output, or None for a case that it does not know. Whatever only moves entries about needs none, and runs
unchanged on the labels. What has no rule makes the units it touches stay, and is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from torch import fx

from autoprune.structure.graph.coupling import Coupling

Rule = Callable[[Coupling, fx.Node, tuple[Any, ...]], Any]
Rules = Mapping[str, Rule]
"""Rules by the operator's name without overload (``aten::conv2d``)."""
_OPERATORS = "operators"


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Mark a function as the rule of those operators: of ``aten`` where no other library is named."""

    def mark(function: Rule) -> Rule:
        setattr(function, _OPERATORS, names)
        return function

    return mark


def rules_of(module: ModuleType) -> dict[str, Rule]:
    """The rules that are defined in a module."""
    found: dict[str, Rule] = {}
    for function in vars(module).values():
        for name in getattr(function, _OPERATORS, ()) if getattr(function, "__module__", "") == module.__name__ else ():
            found[name if "::" in name else f"aten::{name}"] = function
    return found
