"""Norms and slopes: channels go together with their scale, shift and running statistics."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from autoprune.structure.graph.coupling import Coupling
from autoprune.structure.graph.labels import Labels, along, axis, constant, varying, vector
from autoprune.structure.graph.rules.registry import rule


@rule("batch_norm", "instance_norm")
def channel_norm(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """(N, C, …) with weight, bias, running mean and variance of shape (C,).

    A weight that is standardised is normalised over what each of its outputs reads.
    """
    x = args[0]
    coupling.count(node)
    if x.parameter:
        for plane in x.planes:
            for dim in varying(plane):
                if dim != 1:
                    coupling.average(node, dim, plane)
        channels = axis(x, 1)
    else:
        channels = vector(x.plane, 1, coupling.ties)
    for tensor in args[1:5]:
        if tensor is not None:
            coupling.ties.tie(channels, coupling.claim(axis(tensor, 0), "vector"))
            coupling.makes(tensor, axis(tensor, 0))
    return x if x.parameter else along(channels, 1, x.shape)


@rule("_weight_norm")
def weight_norm(coupling: Coupling, _: fx.Node, args: tuple[Any, ...]) -> Labels:
    """A weight made of direction and length along ``dim`` (arXiv:1602.07868); entries of 0 add nothing to a norm."""
    direction, length, dim = args
    coupling.ties.tie(axis(direction, dim), coupling.claim(axis(length, dim), "vector"))
    return direction  # type: ignore[no-any-return]


@rule("group_norm")
def group_norm(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """(N, C, …) normalised over each of ``groups`` blocks of channels."""
    x, groups = args[0], args[1]
    channels = vector(x.plane, 1, coupling.ties)
    affine = [tensor for tensor in args[2:4] if tensor is not None]
    for tensor in affine:
        coupling.ties.tie(channels, coupling.claim(axis(tensor, 0), "vector"))
        coupling.makes(tensor, axis(tensor, 0))
    blocks = channels.view(groups, -1)
    if groups > 1 and coupling.by_whole_groups(node, groups, blocks.shape[1]):
        coupling.ties.tie(blocks, blocks[:, :1])
    elif not affine:
        coupling.ties.pin(channels, "a group norm without scale averages over them")
    else:
        coupling.ties.tie(blocks, blocks[:1])
    return along(channels, 1, x.shape)


@rule("layer_norm", "rms_norm")
def layer_norm(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Normalised over the last ``len(normalized_shape)`` dimensions."""
    x, shape = args[0], args[1]
    first = len(x.shape) - len(shape)
    dims = [dim for dim in varying(x.plane) if dim >= first]
    affine = [tensor for tensor in args[2:4] if isinstance(tensor, Labels)]
    if len(dims) > 1 or (dims and not affine):
        coupling.ties.pin(x.plane, f"{node.target} averages over them" + ("" if affine else " and has no scale"))
        return constant(x.shape)
    for tensor in affine:
        coupling.makes(tensor, axis(tensor, -1))
        for dim in range(len(shape)):
            atoms = axis(tensor, dim)
            if [first + dim] == dims:
                coupling.ties.tie(vector(x.plane, dims[0], coupling.ties), coupling.claim(atoms, "vector"))
    return x  # type: ignore[no-any-return]


@rule("prelu", "_prelu_kernel")
def prelu(coupling: Coupling, _: fx.Node, args: tuple[Any, ...]) -> Labels:
    """(N, C, …) with one slope for all channels or one for each."""
    x, slope = args[0], args[1]
    if torch.Size(slope.shape).numel() > 1:
        coupling.ties.tie(vector(x.plane, 1, coupling.ties), coupling.claim(slope.planes[0].reshape(-1), "vector"))
        coupling.makes(slope, slope.planes[0].reshape(-1))
    return x  # type: ignore[no-any-return]
