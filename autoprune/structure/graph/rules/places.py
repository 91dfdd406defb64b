"""Operators that read or write entries at places along one dimension: units along the others go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from autoprune.structure.graph.coupling import Coupling
from autoprune.structure.graph.labels import Labels, constant, varies, varying
from autoprune.structure.graph.operators import output_shape, short_name
from autoprune.structure.graph.rules.elementwise import elementwise
from autoprune.structure.graph.rules.parts import indexed
from autoprune.structure.graph.rules.registry import rule


@rule("scatter", "scatter_add", "scatter_reduce", "gather", "take_along_dim")
def entry_by_entry(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels | None:
    """A place for every entry: tensors of one number of dimensions, which agree along the others than ``dim``."""
    if short_name(node) == "take_along_dim":
        x, index, dim = args
        others: list[Labels] = []
    else:
        x, dim, index = args[:3]
        others = [arg for arg in args[3:4] if isinstance(arg, Labels) and arg.shape]
    if dim is None or not x.shape:
        return None
    dim %= len(x.shape)
    # A place that is as good for one unit as for another has no unit itself.
    beside = [each for each in (*others, index) if each is not index or each.parameter or each.plane.any()]
    return _along_others(coupling, node, [x, *beside], dim, sized=[x, index, *others])


@rule("index_add", "index_copy", "index_reduce", "index_fill")
def slice_by_slice(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels | None:
    """A place for every slice of the source along ``dim``."""
    x, dim, index = args[:3]
    if not x.shape:
        return None
    coupling.pin_all(index, f"{coupling.ties.where} reads them as places")
    others = [arg for arg in args[3:4] if isinstance(arg, Labels) and arg.shape]
    return _along_others(coupling, node, [x, *others], dim % len(x.shape), sized=[x, *others])


def _along_others(
    coupling: Coupling, node: fx.Node, operands: Sequence[Labels], dim: int, *, sized: Sequence[Labels]
) -> Labels:
    """Labels of entries that are moved along one dimension: those along it stay, the others meet as they stand."""
    name, shape = short_name(node), output_shape(node)
    for x in operands:
        for plane in x.planes:
            if varies(plane, dim):
                coupling.ties.pin(plane, f"{name} picks them by number")
            elif any(each.shape[other] not in (1, plane.shape[other]) for each in sized for other in varying(plane)):
                coupling.ties.pin(plane, f"{name} takes a part of them")
    kept = [_without(x, dim) for x in operands]
    if any(each.shape[other] not in (1, shape[other]) for each in kept for other in range(len(shape)) if other != dim):
        coupling.pin_all(kept, f"{name} takes a part of them")
        return constant(shape)
    merged = elementwise(coupling, kept, torch.Size([*shape[:dim], 1, *shape[dim + 1 :]]))
    return Labels(tuple(plane.expand(shape) for plane in merged.planes), merged.parameter)


def _without(x: Labels, dim: int) -> Labels:
    """Its planes that do not vary along a dimension, of size 1 there."""
    kept = [plane.narrow(dim, 0, 1) for plane in x.planes if not varies(plane, dim)]
    zeros = torch.zeros((), dtype=torch.int64).expand(x.shape).narrow(dim, 0, 1)
    return Labels(tuple(kept) or (zeros,), x.parameter)


@rule("index_put", "_index_put_impl", "_unsafe_index_put")
def index_put(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels | None:
    """Values at numbered places of some dimensions, or at the places of a mask."""
    x, indices, values = args[:3]
    made = [index.meta["val"] for index in node.args[1] if index is not None]  # type: ignore[union-attr]
    shape = output_shape(node)
    coupling.pin_all(values if values.parameter else None, f"used whole by {coupling.ties.where}")
    if any(index.dtype in (torch.bool, torch.uint8) for index in made):
        mask = indices[0]
        if len(indices) > 1 or torch.Size(values.shape).numel() > 1 or mask.parameter:
            return None
        entries = Labels((mask.plane.reshape(*mask.shape, *[1] * (len(shape) - len(mask.shape))),))
        return elementwise(coupling, [x, entries, Labels((values.plane.reshape(()),))], shape)
    coupling.pin_all(indices, f"{coupling.ties.where} reads them as places")
    dims = [dim for dim, index in enumerate(indices) if index is not None]
    kept = []
    for plane in x.planes:
        if any(varies(plane, dim) for dim in dims):
            coupling.ties.pin(plane, "index_put writes to them by number")
        else:
            kept.append(plane)
    kept = kept or [torch.zeros((), dtype=torch.int64).expand(x.shape)]
    taken = torch.broadcast_shapes(*(index.shape for index in made))  # type: ignore[no-untyped-call]
    part = _part(shape, dims, taken)
    elementwise(coupling, [Labels(tuple(indexed(p, dims, part) for p in kept), x.parameter), values], part)
    return Labels(tuple(kept), x.parameter)


def _part(shape: torch.Size, dims: Sequence[int], index: torch.Size) -> torch.Size:
    """Shape of what indices of that shape take: in place, in front where the dimensions are not neighbours."""
    rest = [size for dim, size in enumerate(shape) if dim not in dims]
    place = dims[0] if list(dims) == list(range(dims[0], dims[0] + len(dims))) else 0
    return torch.Size([*rest[:place], *index, *rest[place:]])
