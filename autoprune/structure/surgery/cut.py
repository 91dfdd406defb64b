"""Cutting: sliced tensors in a copied module, and the sizes that modules keep as attributes.

A `Plan` is data: which indices every tensor keeps and which attributes change. Making it needs the structure; applying
it needs only the dense module, so that a saved model is a plan and its weights.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.structure.surgery.attention import CutMultiheadAttention
from autoprune.structure.surgery.bypass import Bypass


@dataclass(frozen=True)
class Plan:
    """How a dense module becomes a smaller one."""

    kept: Mapping[str, Mapping[int, Tensor]]
    """Tensor name to dimension to the sorted indices that stay, int64."""
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Module name to attribute to its new value."""
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    """Parameter name to a bool for each of its dense entries, False where it is set to zero."""
    bypassed: Mapping[str, int] = field(default_factory=dict)
    """Name of a module that is left out to the length of the tuple that it returned; 0 for a bare tensor."""


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
    memo: dict[int, Any] = {id(block): Bypass(plan.bypassed[name], _hollow(block)) for name, block in blocks.items()}
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
    for name, attributes in plan.attributes.items():
        if name.startswith(gone) or name in plan.bypassed:
            continue
        module = module_at(result, name)
        module.__dict__.update(attributes)
        if type(module) is nn.MultiheadAttention:
            module.__class__ = CutMultiheadAttention
    return result


def _small(tensor: Tensor, kept: Mapping[int, Tensor], mask: Tensor | None) -> Tensor:
    """What stays of a parameter or buffer."""
    small = sliced(tensor, kept)
    if type(tensor) is nn.Parameter or isinstance(tensor, nn.Parameter):  # the first is many times faster
        small = nn.Parameter(small, requires_grad=tensor.requires_grad)
    for each in (tensor.__dict__.get(_MASK), mask):  # of an earlier cut, of this one
        if each is not None:
            keep_zero(small, sliced(each, kept).to(small.device))
    return small


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
    if id(module) in changed or len(staying) < len(own) or not all(inside):
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


def _hollow(module: nn.Module) -> nn.Module:
    """A copy without parameters and buffers."""
    return copied(module, {id(tensor): None for tensor in named_tensors(module).values()})


_PLAIN = frozenset({int, float, str, bool, type(None), torch.dtype, torch.device, torch.Size})
_CONTAINERS = frozenset({dict, OrderedDict, set, list})


def copied(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """``copy.deepcopy`` of a module, an order of magnitude faster: most of what a module holds is plain or empty."""
    if id(module) in memo:
        return memo[id(module)]  # type: ignore[no-any-return]
    cls = type(module)
    if hasattr(cls, "__deepcopy__") or cls.__getstate__ is not nn.Module.__getstate__:
        copied_module: nn.Module = copy.deepcopy(module, memo)
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
            attributes[key] = kind([(name, None if c is None else copied(c, memo)) for name, c in value.items()])
        else:
            attributes[key] = copy.deepcopy(value, memo)
    attributes.pop("_compiled_call_impl", None)  # a compiled forward belongs to the old sizes
    new.__dict__.update(attributes)
    return new


# Sizes that modules keep as attributes: the sliced shapes tell the new ones.

Shapes = Mapping[str, Sequence[int]]
Resize = Callable[[nn.Module, Shapes, bool], dict[str, Any]]
_TELLING = frozenset(
    "weight running_mean in_proj_weight q_proj_weight k_proj_weight v_proj_weight weight_ih_l0 weight_hh_l0 "
    "weight_hr_l0".split()
)


def telling_sizes(names: Iterable[str]) -> list[str]:
    """Of a module's own tensors those whose shapes `resized` looks at."""
    found = [name for name in names if name in _TELLING]
    return [name for name in found if name != "running_mean" or "weight" not in found]


def keeps_sizes(module: nn.Module) -> bool:
    """Whether `resized` knows the attributes of such a module."""
    return any(isinstance(module, kinds) for kinds, _ in _RESIZE)


def resized(module: nn.Module, shapes: Shapes, whole_groups: bool) -> dict[str, Any]:
    """New values of the attributes that hold a module's sizes.

    Args:
        module: The dense module.
        shapes: Its own parameters' and buffers' new shapes, by their name in the module.
        whole_groups: Whether it loses whole groups (a grouped convolution, a group norm).
    """
    for kinds, resize in _RESIZE:
        if isinstance(module, kinds):
            new = resize(module, shapes, whole_groups)
            return {name: value for name, value in new.items() if getattr(module, name, None) != value}
    return {}


def _share(module: Any, attribute: str, new: int, old: int) -> int:
    return int(getattr(module, attribute)) * new // old


def _convolution(module: Any, shapes: Shapes, whole: bool) -> dict[str, Any]:
    if "weight" not in shapes:  # it is computed from others
        return {}
    weight = shapes["weight"]
    groups = _share(module, "groups", weight[0], module.weight.shape[0]) if whole else module.groups
    if module.transposed:
        return {"in_channels": weight[0], "out_channels": weight[1] * groups, "groups": groups}
    return {"in_channels": weight[1] * groups, "out_channels": weight[0], "groups": groups}


def _linear(_: Any, shapes: Shapes, __: bool) -> dict[str, Any]:
    return {"in_features": shapes["weight"][1], "out_features": shapes["weight"][0]} if "weight" in shapes else {}


def _channel_norm(_: Any, shapes: Shapes, __: bool) -> dict[str, Any]:
    sizes = [shapes[name][0] for name in ("weight", "running_mean") if name in shapes]
    return {"num_features": sizes[0]} if sizes else {}


def _group_norm(module: Any, shapes: Shapes, whole: bool) -> dict[str, Any]:
    if "weight" not in shapes:
        return {}
    channels = shapes["weight"][0]
    groups = _share(module, "num_groups", channels, module.num_channels) if whole else module.num_groups
    return {"num_channels": channels, "num_groups": groups}


def _layer_norm(_: Any, shapes: Shapes, __: bool) -> dict[str, Any]:
    return {"normalized_shape": tuple(shapes["weight"])} if "weight" in shapes else {}


def _embedding(_: Any, shapes: Shapes, __: bool) -> dict[str, Any]:
    return {"embedding_dim": shapes["weight"][1]}


def _prelu(_: Any, shapes: Shapes, __: bool) -> dict[str, Any]:
    return {"num_parameters": shapes["weight"][0]}


def _recurrent(_: Any, shapes: Shapes, __: bool) -> dict[str, Any]:
    inputs = shapes["weight_ih_l0"][1]
    if "weight_hr_l0" in shapes:
        projected, hidden = shapes["weight_hr_l0"]
        return {"input_size": inputs, "hidden_size": hidden, "proj_size": projected}
    return {"input_size": inputs, "hidden_size": shapes["weight_hh_l0"][1]}


def _attention(module: Any, shapes: Shapes, __: bool) -> dict[str, Any]:
    packed = shapes.get("in_proj_weight")
    rows = packed[0] // 3 if packed is not None else shapes["q_proj_weight"][0]
    width = packed[1] if packed is not None else shapes["q_proj_weight"][1]
    sizes = {"embed_dim": width, "num_heads": rows // module.head_dim}
    if packed is not None:
        sizes |= {"kdim": width, "vdim": width}
    else:
        sizes |= {"kdim": shapes["k_proj_weight"][1], "vdim": shapes["v_proj_weight"][1]}
    # Keeps nn.TransformerEncoderLayer off its fused path, which knows no such sizes.
    return {**sizes, "_qkv_same_embed_dim": False}


_RESIZE: tuple[tuple[type | tuple[type, ...], Resize], ...] = (
    (nn.modules.conv._ConvNd, _convolution),
    (nn.Linear, _linear),
    ((nn.modules.batchnorm._NormBase,), _channel_norm),
    (nn.GroupNorm, _group_norm),
    ((nn.LayerNorm, nn.RMSNorm), _layer_norm),
    (nn.Embedding, _embedding),
    (nn.PReLU, _prelu),
    (nn.RNNBase, _recurrent),
    (nn.MultiheadAttention, _attention),
)
