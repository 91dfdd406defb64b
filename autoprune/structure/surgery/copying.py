"""Modules of a network by name, and copies of them."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Set
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.toolkit.copies import code_of, is_code, rebound


def module_at(network: nn.Module, name: str) -> nn.Module:
    """``get_submodule`` of a name that is known to be there, many times faster."""
    module: Any = network
    for part in name.split(".") if name else ():
        module = module._modules[part]
    return module  # type: ignore[no-any-return]


def module_or_none(network: nn.Module, name: str) -> nn.Module | None:
    """The same of a name that may not be there."""
    module: Any = network
    for part in name.split(".") if name else ():
        module = module._modules.get(part)
        if module is None:
            return None
    return module  # type: ignore[no-any-return]


def reuse(module: nn.Module, changed: Set[int], memo: dict[int, Any]) -> bool:
    """Put what stays as it is into the memo as itself; whether the whole module does.

    Args:
        module: Where to look.
        changed: Identities of tensors and modules that do not stay.
        memo: Identity to what takes its place.
    """
    own = [tensor for held in (module._parameters, module._buffers) for tensor in held.values() if tensor is not None]
    staying = [tensor for tensor in own if id(tensor) not in changed]
    memo |= {id(tensor): tensor for tensor in staying}
    inside = [reuse(child, changed, memo) for child in module._modules.values() if child is not None]
    if id(module) in changed or len(staying) < len(own) or not all(inside) or code_of(module):
        return False
    memo[id(module)] = module
    return True


def named_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer under each of its names."""
    found: dict[str, Tensor] = {}
    todo = [("", network)]
    while todo:
        prefix, module = todo.pop()
        for own in (module._parameters, module._buffers):
            for name, tensor in own.items():
                if tensor is not None:
                    found[prefix + name] = tensor
        for name, child in module._modules.items():
            if child is not None:
                todo.append((f"{prefix}{name}.", child))
    return found


def without_tensors(module: nn.Module) -> nn.Module:
    """A copy without parameters and buffers."""
    return copied(module, {id(tensor): None for tensor in named_tensors(module).values()})


_PLAIN = frozenset({int, float, str, bool, type(None), torch.dtype, torch.device, torch.Size})
_CONTAINERS = frozenset({dict, OrderedDict, set, list})


def copied(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """``copy.deepcopy`` of a module whose functions, closures and hooks use the copy, too.

    It is an order of magnitude faster, for most of what a module holds is plain or empty.

    Args:
        module: What to copy.
        memo: Identity to what takes its place, of all parameters and buffers at least; copies are added.
    """
    functions: list[tuple[nn.Module, str]] = []
    new = _copied(module, memo, functions)
    for owner, name in functions:
        vars(owner)[name] = rebound(vars(owner)[name], memo)
    return new


def _copied(module: nn.Module, memo: dict[int, Any], functions: list[tuple[nn.Module, str]]) -> nn.Module:
    """See `copied`; notes the attributes that are functions, or containers of some."""
    if id(module) in memo:
        return memo[id(module)]  # type: ignore[no-any-return]
    cls = type(module)
    if hasattr(cls, "__deepcopy__") or cls.__getstate__ is not nn.Module.__getstate__:
        copied_module: nn.Module = copy.deepcopy(module, memo)
        functions += [(each, name) for each in copied_module.modules() for name in code_of(each)]
        return copied_module
    memo[id(module)] = new = cls.__new__(cls)
    attributes = module.__dict__.copy()
    for key, value in module.__dict__.items():
        kind = type(value)
        if kind in _PLAIN or (kind is tuple and _PLAIN.issuperset(map(type, value))):
            continue
        if kind in _CONTAINERS and not value:
            attributes[key] = kind()
        elif key == "_parameters" or key == "_buffers":
            attributes[key] = kind([(name, None if t is None else memo[id(t)]) for name, t in value.items()])
        elif key == "_modules":
            attributes[key] = kind(
                [(name, None if c is None else _copied(c, memo, functions)) for name, c in value.items()]
            )
        else:
            attributes[key] = copy.deepcopy(value, memo)
            if is_code(value):
                functions.append((new, key))
    attributes.pop("_compiled_call_impl", None)  # a compiled forward belongs to the old sizes
    new.__dict__.update(attributes)
    return new
