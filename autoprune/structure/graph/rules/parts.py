"""How operators that take part of a dimension treat the units along it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from autoprune.structure.graph.coupling import Coupling
from autoprune.structure.graph.labels import Labels, along, narrowed, varies, vector
from autoprune.structure.graph.operators import output_shape, short_name
from autoprune.structure.graph.rules.registry import rule


@rule("chunk", "split", "split_with_sizes", "tensor_split", "unsafe_chunk", "unsafe_split")
def parts(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Any:
    """Equal parts of a dimension that varies lose the same indices; unequal ones stay whole."""
    x = args[0]
    dim = args[2] % len(x.shape)
    sizes = [value.shape[dim] for value in node.meta["val"]]
    planes = [plane.split(sizes, dim) for plane in x.planes]
    if not x.parameter and varies(x.plane, dim):
        coupling.named(node, planes[0][0])
        coupling.named(node, x.plane)
        if len(set(sizes)) > 1:
            coupling.ties.pin(x.plane, "they are split in unequal parts")
        else:
            for part in planes[0][1:]:
                coupling.ties.tie(narrowed(part), narrowed(planes[0][0]))
    return tuple(Labels(split, x.parameter) for split in zip(*planes, strict=True))


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """(N, C, …) read as (N, groups, C / groups, …) and transposed: every group loses the same channels."""
    x, groups = args[:2]
    blocks = vector(coupling.carried(x, 1), 1, coupling.ties).view(groups, -1)
    coupling.ties.tie(blocks, blocks[:1])
    return along(blocks.t().reshape(-1), 1, output_shape(node))


@rule("slice")
def slicing(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Part of a dimension that varies: the dimension is read as equal parts of that size, or stays whole."""
    x, dim, start, _, step = args
    dim %= len(x.shape)
    size, start = x.shape[dim], start or 0
    start = max(start + size, 0) if start < 0 else min(start, size)
    taken = output_shape(node)[dim]
    if taken != size and not x.parameter and varies(x.plane, dim):
        coupling.named(node, x.plane)
        if step == 1 and taken and size % taken == 0 and start % taken == 0:
            blocks = vector(x.plane, dim, coupling.ties).view(-1, taken)
            coupling.ties.tie(blocks, blocks[:1])
        else:
            coupling.ties.pin(x.plane, "the code takes a fixed slice of them")
    end = start + (taken - 1) * step + 1 if taken else start
    index = (*[slice(None)] * dim, slice(start, end, step))
    return Labels(tuple(plane[index] for plane in x.planes), x.parameter)


@rule("narrow")
def narrow(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """A slice by its start and length."""
    x, dim, start, length = args
    part: Labels = slicing(coupling, node, (x, dim, start, start + length, 1))
    return part


@rule("select", "index_select", "index", "roll", "unbind")
def fixed_index(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Any:
    """Entries at fixed places of a dimension: what varies along it stays, the rest goes on."""
    x = args[0]
    name = short_name(node)
    if name == "index":
        dims = [dim for dim, index in enumerate(args[1]) if index is not None]
    elif name == "roll":
        dims = [dim % len(x.shape) for dim in args[2]] or list(range(len(x.shape)))
    else:
        dims = [args[1] % len(x.shape)]
    if name == "select" and not node.users and args[2] in (0, -1):
        return coupling.constants(node)  # a first or last entry there always is, and nobody looks at it
    kept = []
    for plane in x.planes:
        if any(varies(plane, dim) for dim in dims):
            coupling.ties.pin(plane, f"{name} picks them by number")
        else:
            kept.append(plane)
    if not kept:
        kept.append(torch.zeros((), dtype=torch.int64).expand(x.shape))
    if name == "unbind":
        return tuple(Labels(part, x.parameter) for part in zip(*(p.unbind(dims[0]) for p in kept), strict=True))
    shape = output_shape(node)
    if name == "select":
        planes = [plane.select(dims[0], 0) for plane in kept]
    elif name == "index":
        planes = [indexed(plane, dims, shape) for plane in kept]
    else:
        planes = [narrowed(plane).expand(shape) for plane in kept]
    return Labels(tuple(planes), x.parameter)


def indexed(plane: Tensor, dims: Sequence[int], shape: torch.Size) -> Tensor:
    """Indexed dimensions are replaced by those of the index: in place, in front where they are not neighbours."""
    new = len(shape) - (plane.ndim - len(dims))
    rest = plane
    for dim in sorted(dims, reverse=True):
        rest = rest.select(dim, 0)
    place = dims[0] if list(dims) == list(range(dims[0], dims[0] + len(dims))) else 0
    return rest.reshape(*rest.shape[:place], *[1] * new, *rest.shape[place:]).expand(shape)
