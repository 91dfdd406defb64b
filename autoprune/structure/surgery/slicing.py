"""Applying a plan: sliced tensors in a copied module, zeros that stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.structure.surgery.attention import CutMultiheadAttention
from autoprune.structure.surgery.bypass import Bypass
from autoprune.structure.surgery.copying import copied, module_at, named_tensors, reuse, without_tensors
from autoprune.structure.surgery.numbered import take_first_places
from autoprune.structure.surgery.plan import Plan

_MASK = "kept_entries"
"""Attribute of a masked parameter that holds its mask, for a model that is cut again."""


_WHOLE: Mapping[int, Tensor] = {}


def sliced(tensor: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
    """A copy of the kept entries, to be made without gradients."""
    if not kept:
        return tensor.clone()
    for dim, index in kept.items():
        tensor = tensor.index_select(dim, index if tensor.is_cpu else index.to(tensor.device))
    return tensor


def apply(network: nn.Module, plan: Plan, *, share: bool = False) -> nn.Module:
    """A smaller copy of the network, which itself is untouched.

    Args:
        network: The dense network.
        plan: How it changes.
        share: Let what the plan leaves as it is be the network's own; else nothing is.

    Raises:
        StructureError: The plan names tensors or modules that the network does not have.
    """
    tensors = named_tensors(network)
    if missing := [name for name in plan.kept if name not in tensors]:
        raise StructureError(
            f"{type(network).__name__} has no parameter {missing[0]!r}: it is not the model of the recipe"
        )
    blocks = {name: network.get_submodule(name) for name in plan.bypassed}
    memo: dict[int, Any] = {
        id(block): Bypass(plan.bypassed[name], without_tensors(block)) for name, block in blocks.items()
    }
    by_identity = {id(tensors[name]): kept for name, kept in plan.kept.items()}
    masks = {id(tensors[name]): mask for name, mask in plan.masks.items()}
    gone = tuple(f"{name}." for name in plan.bypassed)
    if share:
        sized = {id(module_at(network, name)) for name in plan.attributes}
        reuse(network, by_identity.keys() | masks.keys() | memo.keys() | sized, memo)
    with torch.no_grad():
        for name, tensor in tensors.items():
            key = id(tensor)
            if key not in memo and not (gone and name.startswith(gone)):
                memo[key] = _small(tensor, by_identity.get(key, _WHOLE), masks.get(key))
    result = copied(network, memo)
    if plan.bypassed:
        take_first_places(network, result)
    for name, attributes in plan.attributes.items():
        if name.startswith(gone) or name in plan.bypassed:
            continue
        module = module_at(result, name)
        module.__dict__.update(attributes)
        if type(module) is nn.MultiheadAttention:
            module.__class__ = CutMultiheadAttention
    _forget(result, network)
    return result


def _forget(copy: nn.Module, network: nn.Module) -> None:
    """Let go of what code computed of the old sizes and kept for ``eval()``, as the attention biases of LeViT.

    Such code drops it in a ``train()`` of its own.
    """
    shared = set(network.modules())
    for module in copy.modules():
        if type(module).train is not nn.Module.train and module not in shared:
            modes = {each: each.training for each in module.modules()}
            module.train()
            module.train(modes[module])
            for each, mode in modes.items():
                each.training = mode


def _small(tensor: Tensor, kept: Mapping[int, Tensor], mask: Tensor | None) -> Tensor:
    """What stays of a parameter or buffer."""
    small = sliced(tensor, kept)
    if type(tensor) is nn.Parameter or isinstance(tensor, nn.Parameter):  # the first is many times faster
        small = nn.Parameter(small, requires_grad=tensor.requires_grad)
    for each in (tensor.__dict__.get(_MASK), mask):  # of an earlier cut, of this one
        if each is not None:
            keep_zero(small, sliced(each, kept).to(small.device))
    return small


def is_kept_zero(parameter: Tensor) -> bool:
    """Whether some of its entries are zero for good."""
    return _MASK in parameter.__dict__


def keep_zero(parameter: Tensor, mask: Tensor) -> None:
    """Set masked entries to zero, for good: their gradients are zero, which no optimizer or weight decay moves.

    Args:
        parameter: Changed in place.
        mask: bool of its shape, False where it is zero.
    """
    with torch.no_grad():
        parameter.mul_(mask)
    earlier = parameter.__dict__.get(_MASK)
    setattr(parameter, _MASK, mask if earlier is None else mask & earlier)
    if parameter.requires_grad:
        # The network may have gone to another device since.
        parameter.register_hook(lambda gradient: gradient * mask.to(gradient.device))  # type: ignore[no-untyped-call]
