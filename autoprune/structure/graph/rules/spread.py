"""Tensors of equal entries, along some dimensions or all: of what is made so, as much is left as of what it meets."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from autoprune.structure.graph.coupling import Coupling
from autoprune.structure.graph.labels import Labels, along, axis, varies, vector
from autoprune.structure.graph.operators import output_shape, short_name
from autoprune.structure.graph.rules.moves import moved
from autoprune.structure.graph.rules.registry import rule


@rule(*(f"{what}_like" for what in "zeros ones full empty rand randn randint".split()))
def like(_: Coupling, __: fx.Node, args: tuple[Any, ...]) -> Labels:
    """In the shape of another tensor: what goes of that one goes of this."""
    x: Labels = args[0]
    return x


@rule("expand", "broadcast_to", "expand_as", "repeat")
def spread(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """What carries units goes on; else what is new counts what the code wants it to: units, it may be."""
    x, shape = args[0], output_shape(node)
    name = short_name(node)
    planes = [plane.repeat(args[1]) if name == "repeat" else plane.expand(shape) for plane in x.planes]
    first = len(shape) - len(x.shape)
    new = [dim for dim, size in enumerate(shape) if size > 1 and (dim < first or x.shape[dim - first] == 1)]
    if not new or (not x.parameter and x.plane.any()):
        return moved(coupling, node, x, planes)
    if name == "expand_as":
        sizes = [_size(coupling, args[1], dim) for dim in new]
        made = [along(size, dim, shape).plane for dim, size in zip(new, sizes, strict=True) if size.any()]
    else:
        labels = coupling.filled(node, shape, new)
        made = list(labels.planes)
    own = [plane for plane in planes if plane.any()] if made else planes
    return Labels((*own, *made), parameter=x.parameter or bool(made))


def _size(coupling: Coupling, other: Labels, dim: int) -> torch.Tensor:
    """Labels of another tensor along a dimension, constant where it does not vary."""
    if other.parameter:
        return axis(other, dim)
    return (
        vector(other.plane, dim, coupling.ties)
        if varies(other.plane, dim)
        else torch.zeros(other.shape[dim], dtype=torch.int64)
    )
