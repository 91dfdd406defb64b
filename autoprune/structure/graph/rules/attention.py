"""Attention: a head goes with its query, key and value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from autoprune.structure.graph.coupling import Coupling
from autoprune.structure.graph.labels import Labels, along, varies, vector
from autoprune.structure.graph.operators import output_shape
from autoprune.structure.graph.rules.registry import rule


@rule("scaled_dot_product_attention")
def attention(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Query (…, H, T, d), key (…, H', S, d), value (…, H', S, e): a head goes with its query, key and value.

    With H > H' (grouped-query attention) a key's head goes with all of its query heads.
    """
    query, key, value = (_heads(coupling, x) for x in args[:3])
    if node.kwargs.get("scale") is None:
        for plane in (query, key):
            if varies(plane, -1):
                coupling.ties.pin(plane, "attention is scaled by the number of them")
    read, of_key, made = (_entries(coupling, plane) for plane in (query, key, value))
    coupling.ties.tie(read, of_key)
    shape = output_shape(node)
    steps = shape[:-1].numel() * key.shape[-2]
    planes = (query, key, value)
    head = next((dim for dim in range(query.ndim - 2) if any(varies(plane, dim) for plane in planes)), None)
    if head is None:
        coupling.macs(steps, read)
        coupling.macs(steps, made)
        return along(made, len(shape) - 1, shape)
    heads, keys, values = (vector(plane, head, coupling.ties) for plane in planes)
    coupling.ties.tie(keys, values)
    coupling.ties.tie(heads.view(len(keys), -1), keys.unsqueeze(1))
    coupling.kind("head", keys)
    if len(args) > 3 and isinstance(args[3], Labels):
        _mask(coupling, args[3], head - query.ndim, heads)
    coupling.macs(steps // len(heads), heads, read)
    coupling.macs(steps // len(heads), heads, made)
    return along(heads, head, shape)


def _heads(coupling: Coupling, x: Labels) -> Tensor:
    """Labels of a query, key or value; one that is a parameter has its heads third from last."""
    return coupling.carried(x, -3) if len(x.shape) > 2 else coupling.carried(x, -1)


def _mask(coupling: Coupling, mask: Labels, dim: int, heads: Tensor) -> None:
    """A mask (…, H, T, S) of a bias for every head goes with the heads."""
    if len(mask.shape) < -dim or mask.shape[dim] == 1:
        return
    plane = coupling.carried(mask, dim)
    if varies(plane, dim % plane.ndim):
        coupling.ties.tie(vector(plane, dim, coupling.ties), heads)


def _entries(coupling: Coupling, plane: Tensor) -> Tensor:
    """Labels of a head's entries, constant where the units are not among them."""
    return vector(plane, -1, coupling.ties) if varies(plane, -1) else torch.zeros(plane.shape[-1], dtype=torch.int64)
