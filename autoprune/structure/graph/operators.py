"""Operators by what they do to entries, and which of several dimensions carries units after one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from autoprune.structure.graph.labels import along, varies, varying

MOVES = frozenset(
    f"aten::{name}"
    for name in (
        "view reshape _unsafe_view view_as reshape_as permute transpose t numpy_T mT swapaxes movedim moveaxis flatten "
        "unflatten squeeze unsqueeze expand expand_as broadcast_to repeat repeat_interleave tile flip cat concat "
        "stack pixel_shuffle pixel_unshuffle unfold"
    ).split()
)
"""Operators that only move entries about: they run unchanged on labels, where no rule says more."""

_REORDERS = frozenset(
    f"aten::{name}" for name in "permute transpose t numpy_T mT swapaxes movedim moveaxis squeeze unsqueeze".split()
)

SAME = frozenset(
    f"aten::{name}"
    for name in (
        "clone contiguous detach detach_ alias dropout dropout_ feature_dropout alpha_dropout _to_copy to type_as "
        "lift_fresh_copy zero fill"
    ).split()
)
"""Operators whose output is their first input."""

ELEMENTWISE = frozenset(
    f"aten::{name}"
    for name in (
        "hardswish log_sigmoid masked_fill copy where rsub __and__ __or__ true_divide rrelu complex polar real imag"
    ).split()
)
"""Operators that act entry by entry without the tag that says so."""

WRAPPERS = frozenset(f"wrap_with_{what}" for what in ("set_grad_enabled", "autocast"))
"""Operators that run a graph of their own on what they are given."""

FILLED = frozenset(f"aten::{new}{name}" for new in ("", "new_") for name in "zeros ones full empty".split())
"""Operators that make a tensor of one value, in a size that is written there."""


SEVERAL = frozenset(
    f"aten::{name}"
    for name in (
        "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d matmul mm bmm einsum baddbmm "
        "addmm mean sum var std var_mean std_mean amax amin softmax log_softmax select index_select index unbind"
    ).split()
)
"""Operators, besides moves and what acts entry by entry, that know activations with units along two dimensions."""


def operator_name(node: fx.Node) -> str:
    """Name of the operator without overload; empty for what is none."""
    schema = getattr(node.target, "_schema", None)
    return schema.name.removesuffix("_") if schema else ""


def output_shape(node: fx.Node) -> torch.Size:
    """Shape of the node's only output."""
    shape: torch.Size = node.meta["val"].shape
    return shape


def short_name(node: fx.Node) -> str:
    """Name of the operator: ``mean`` of ``aten.mean.dim``."""
    return str(node.target).split(".")[1]


def ways(node: fx.Node, source: Tensor, shape: torch.Size, dims: Sequence[int]) -> list[int]:
    """Dimensions that may carry the units after a node spread them over ``dims``, the likeliest first.

    Of a last dimension split in heads, the heads; of channels split for a shuffle, the channels of a block. A
    dimension of two or three whose entries are then picked is a pair or triple of like things (query, key, value).
    """
    if "pixel_shuffle" in operator_name(node):
        return [dims[0]]
    if operator_name(node) in ("aten::cat", "aten::concat", "aten::stack"):
        carry = varying(source)
        if operator_name(node) == "aten::stack":
            new = int(node.args[1] if len(node.args) > 1 else 0) % len(shape)  # type: ignore[arg-type]
            carry = tuple(dim + 1 if dim >= new else dim for dim in carry)
        return [dim for dim in dims if dim in carry] or list(dims)
    last = source.ndim - 1 in varying(source)
    picked = {dim for dim in dims if shape[dim] <= 3 and _picked(node, _counted(shape, dim))}
    return sorted(dims, key=lambda dim: (dim in picked, dim if last else -dim))


def _counted(shape: torch.Size, dim: int) -> Tensor:
    return along(torch.arange(shape[dim]), dim, shape).plane


def _picked(node: fx.Node, plane: Tensor) -> bool:
    """Whether entries along the dimension that ``plane`` counts are picked by number, after no more than moving."""
    for user in node.users:
        name = operator_name(user)
        if user.args[0] is not node:
            continue
        if name in ("aten::select", "aten::unbind"):
            if varies(plane, int(user.args[1] if len(user.args) > 1 else 0)):  # type: ignore[arg-type]
                return True
        elif name in _REORDERS and not any(isinstance(arg, fx.Node) for arg in user.args[1:]):
            if _picked(user, user.target(plane, *user.args[1:], **user.kwargs)):  # type: ignore[operator]
                return True
        elif name in SAME and _picked(user, plane):
            return True
    return False
