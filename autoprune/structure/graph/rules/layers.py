"""Layers that multiply: input labels are tied to the weight's input dimension, its output dimension goes on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from autoprune.structure.graph.coupling import Coupling, constant_like
from autoprune.structure.graph.labels import Labels, along, axis, constant, varies, varying, vector
from autoprune.structure.graph.operators import output_shape
from autoprune.structure.graph.rules.registry import rule


@rule("conv1d", "conv2d", "conv3d")
def convolution(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Weight of shape (out, in / groups, *kernel)."""
    x, weight = args[0], args[1]
    groups = args[6]
    spatial = len(weight.shape) - 2
    channel = len(x.shape) - spatial - 1
    shape = output_shape(node)
    kernel = torch.Size(weight.shape[2:]).numel()
    # One that reads single positions leaves alone what units there are along them.
    pointwise = groups == kernel == 1 and x.shape[channel + 1 :] == shape[channel + 1 :]
    read, beside = _read(coupling, x, channel, goes_on=pointwise)
    made, inner = coupling.claim(axis(weight, 0), "output"), axis(weight, 1)
    if groups == 1:
        coupling.ties.tie(read, coupling.claim(inner, "input"))
    elif not _per_sample(weight, inner) and coupling.by_whole_groups(node, groups, len(read) // groups):
        _tie_blocks(coupling, read, made, groups)
    else:
        coupling.ties.tie(read.view(groups, -1), coupling.claim(inner, "input"))
        coupling.ties.tie(made.view(groups, -1), made.view(groups, -1)[:1])
    _bias(coupling, args, 2, made)
    coupling.makes(weight, made)
    return _made(coupling, node, weight, (made, inner), kernel, channel, beside)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed_convolution(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Weight of shape (in, out / groups, *kernel)."""
    x, weight = coupling.of_one_dimension(args[0]), args[1]
    groups = args[6]
    spatial = len(weight.shape) - 2
    channel = len(x.shape) - spatial - 1
    read = vector(coupling.carried(x, channel), channel, coupling.ties)
    rows, inner = coupling.claim(axis(weight, 0), "input"), axis(weight, 1)
    coupling.ties.tie(read, rows)
    if groups == 1:
        made = coupling.claim(inner, "output")
    elif not _per_sample(weight, inner) and coupling.by_whole_groups(node, groups, len(read) // groups):
        block = rows.view(groups, -1)
        coupling.ties.tie(block, block[:, :1])
        made = block[:, :1].expand(groups, weight.shape[1]).reshape(-1)
    else:
        coupling.ties.tie(rows.view(groups, -1), rows.view(groups, -1)[:1])
        made = coupling.claim(inner, "output").repeat(groups)
    _bias(coupling, args, 2, made)
    shape = output_shape(node)
    kernel = torch.Size(weight.shape[2:]).numel()
    positions = torch.Size([*x.shape[:channel], *x.shape[channel + 1 :]]).numel()
    coupling.macs(kernel * positions, rows, inner, weight=weight)
    coupling.makes(weight, made)
    return along(made, channel, shape)


def _per_sample(weight: Labels, inner: Tensor) -> bool:
    """Whether groups are samples, each with a weight of its own: one that is computed, and has units within a group."""
    return not weight.parameter and bool(inner.any())


def _tie_blocks(coupling: Coupling, read: Tensor, made: Tensor, groups: int) -> None:
    """A grouped convolution loses whole groups: all that a group reads goes with all that it makes."""
    blocks = torch.cat([read.view(groups, -1), made.view(groups, -1)], dim=1)
    coupling.ties.tie(blocks, made.view(groups, -1)[:, :1])


def _bias(coupling: Coupling, args: tuple[Any, ...], position: int, made: Tensor) -> None:
    if args[position] is not None:
        coupling.ties.tie(made, coupling.claim(axis(args[position], 0), "vector"))


@rule("linear")
def linear(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Weight of shape (out, in); any number of leading dimensions.

    Units along one of those (an MLP-Mixer mixes positions, for each channel alike) go on beside what the layer makes.
    """
    x, weight = args[0], args[1]
    made, inner = coupling.claim(axis(weight, 0), "output"), coupling.claim(axis(weight, 1), "input")
    _bias(coupling, args, 2, made)
    coupling.makes(weight, made)
    read, beside = _read(coupling, x, len(x.shape) - 1, goes_on=True)
    coupling.ties.tie(read, inner)
    return _made(coupling, node, weight, (made, inner), 1, len(x.shape) - 1, beside)


def _read(coupling: Coupling, x: Labels, dim: int, *, goes_on: bool) -> tuple[Tensor, tuple[int, Tensor] | None]:
    """What a layer reads along one dimension; and another with units, and their labels, if that goes on."""
    if x.parameter:
        return vector(coupling.carried(x, dim), dim, coupling.ties), None
    others = [plane for plane in x.planes if varying(plane) and not varies(plane, dim)]
    if not goes_on or not others:
        for plane in others:
            coupling.ties.pin(plane, f"{coupling.ties.where} runs along another dimension than the units")
        rest = [plane for plane in x.planes if not any(plane is other for other in others)]
        return vector(rest[0] if rest else constant(x.shape).plane, dim, coupling.ties), None
    read = next((plane for plane in x.planes if varies(plane, dim)), None)
    (other,) = varying(others[0])
    return (
        torch.zeros(x.shape[dim], dtype=torch.int64) if read is None else vector(read, dim, coupling.ties),
        (other, vector(others[0], other, coupling.ties)),
    )


def _made(
    coupling: Coupling,
    node: fx.Node,
    weight: Labels,
    vectors: tuple[Tensor, Tensor],
    kernel: int,
    dim: int,
    beside: tuple[int, Tensor] | None,
) -> Labels:
    """Labels of what a layer makes along one dimension, beside units along another."""
    shape = output_shape(node)
    made = along(vectors[0], dim, shape)
    positions = shape.numel() // shape[dim]
    if beside is None:
        coupling.macs(kernel * positions, *vectors, weight=weight)
        return made
    other, units = beside
    coupling.macs(kernel * positions // shape[other], units, *vectors, weight=weight)
    planes = (along(units, other, shape).plane, made.plane)
    # Where only one can go on, it is the units that come from before; or, if they stay, those that are made here.
    return Labels(planes if coupling.chosen(node, 2, (units, vectors[0])) == 0 else planes[::-1])


@rule("embedding")
def embedding(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Weight of shape (vocabulary, width); vocabulary rows are no units."""
    shape, made = output_shape(node), coupling.claim(axis(args[0], 1), "output")
    coupling.makes(args[0], made)
    return along(made, len(shape) - 1, shape)


@rule("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Any:
    """Weight of shape (vocabulary, width); of what it returns the first alone carries units, and one more of a maximum.

    Where every bag's entries are weighted, the weights are read whole.
    """
    made = coupling.claim(axis(args[0], 1), "output")
    coupling.makes(args[0], made)
    coupling.pin_all(args[1:], f"{coupling.ties.where} reads them whole")
    values = node.meta["val"]
    # The last are the places of the maxima: one for each unit of a bag.
    return tuple(along(made, 1, value.shape) if value.ndim == 2 else constant_like(value) for value in values)


@rule("bilinear")
def bilinear(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Weight of shape (out, in1, in2), between the last dimensions of two inputs."""
    left, right, weight = args[:3]
    made = coupling.claim(axis(weight, 0), "output")
    inner = [coupling.claim(axis(weight, dim), "input") for dim in (1, 2)]
    for x, atoms in zip((left, right), inner, strict=True):
        coupling.ties.tie(vector(coupling.carried(x, -1), -1, coupling.ties), atoms)
    _bias(coupling, args, 3, made)
    shape = output_shape(node)
    coupling.macs(torch.Size(shape[:-1]).numel(), made, *inner, weight=weight)
    coupling.makes(weight, made)
    return along(made, len(shape) - 1, shape)
