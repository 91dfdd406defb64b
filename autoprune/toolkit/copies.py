"""Copies of networks whose functions use the copy, not what it is a copy of."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

_CONTAINERS = (list, tuple, dict, OrderedDict)
_TENSORS_AND_MODULES = ("_parameters", "_buffers", "_modules")


def duplicate(network: nn.Module) -> nn.Module:
    """``copy.deepcopy`` of a network, whose functions among attributes and hooks use the copy, too.

    ``copy.deepcopy`` alone keeps a function as it is, with all that it closes over: ``self.body = lambda x: self.a(x)``
    would run the layers of the network that was copied.
    """
    memo: dict[int, Any] = {}
    new = copy.deepcopy(network, memo)
    rebind(new, memo)
    return new


def rebind(network: nn.Module, memo: dict[int, Any]) -> None:
    """Have the functions among a copy's attributes and hooks use the copy.

    Args:
        network: The copy.
        memo: See `rebound`.
    """
    for module in network.modules():
        for name in code_of(module):
            vars(module)[name] = rebound(vars(module)[name], memo)


def is_code(value: Any) -> bool:
    """Whether a value is a function, or a container of some."""
    if type(value) in _CONTAINERS:
        return any(map(is_code, value.values() if isinstance(value, dict) else value))
    return isinstance(value, FunctionType | MethodType | partial)


def code_of(module: nn.Module) -> list[str]:
    """Attributes of a module, hooks among them, that are functions: those may use any other module."""
    return [name for name, value in vars(module).items() if name not in _TENSORS_AND_MODULES and is_code(value)]


def rebound(value: Any, memo: dict[int, Any]) -> Any:
    """A function that uses copies where the given one uses what was copied; what uses nothing of it comes back itself.

    What a function closes over and its defaults are looked at, functions among them too, bound arguments of a
    ``partial``, and lists, tuples and dicts of all these. What it reads from a global is not seen.

    Args:
        value: A function, a container of functions, or anything else.
        memo: Identity of modules and tensors to their copies, as of ``copy.deepcopy``; functions are added.
    """
    if isinstance(value, FunctionType):
        return _function(value, memo)
    if isinstance(value, MethodType):
        return MethodType(rebound(value.__func__, memo), memo.get(id(value.__self__), value.__self__))
    if isinstance(value, partial):
        keywords = {name: rebound(each, memo) for name, each in value.keywords.items()}
        return type(value)(rebound(value.func, memo), *(rebound(each, memo) for each in value.args), **keywords)
    if id(value) in memo or type(value) not in _CONTAINERS or not _uses(value, memo, set()):
        return memo.get(id(value), value)
    if isinstance(value, dict):
        return type(value)((key, rebound(each, memo)) for key, each in value.items())
    return type(value)(rebound(each, memo) for each in value)


def _function(function: FunctionType, memo: dict[int, Any]) -> FunctionType:
    known = memo.get(id(function))
    if known is not None:
        return known  # type: ignore[no-any-return]
    if not _uses(function, memo, set()):
        return function
    cells = tuple(CellType() for _ in function.__closure__ or ())
    new = FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)
    memo[id(function)] = new  # before its cells are filled: it may call itself
    for cell, old in zip(cells, function.__closure__ or (), strict=True):
        if _filled(old):
            cell.cell_contents = rebound(old.cell_contents, memo)
    new.__defaults__ = rebound(function.__defaults__, memo)
    new.__kwdefaults__ = rebound(function.__kwdefaults__, memo)
    new.__dict__.update(rebound(function.__dict__, memo))
    new.__qualname__, new.__doc__ = function.__qualname__, function.__doc__
    return new


def _uses(value: Any, memo: dict[int, Any], seen: set[int]) -> bool:
    """Whether a function, or what it calls, uses something that has a copy."""
    if id(value) in memo and memo[id(value)] is not value:
        return True
    if id(value) in seen:
        return False
    seen.add(id(value))
    return any(_uses(each, memo, seen) for each in _parts(value))


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        return [*cells, value.__defaults__, value.__kwdefaults__]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if type(value) in _CONTAINERS:
        return value.values() if isinstance(value, dict) else value
    return ()


def _filled(cell: CellType) -> bool:
    """Whether the variable has been given a value."""
    try:
        cell.cell_contents  # noqa: B018  an empty one raises
    except ValueError:
        return False
    return True
