"""How operators couple units: about fifteen rules; whatever only moves entries about runs unchanged on the labels.

A rule gets the `Labeler`, the node and its arguments (tensors replaced by `Labels`) and returns the labels of the
node's output. What has no rule makes the units it touches stay, and is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from autoprune.structure.graph.labels import Labels, along, axis, constant, narrowed, varies, varying, vector

if TYPE_CHECKING:
    from autoprune.structure.graph.labeler import Labeler

Rule = Callable[["Labeler", fx.Node, tuple[Any, ...]], Any]
RULES: dict[str, Rule] = {}
"""Rules by the operator's name without overload (``aten::conv2d``)."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for those operators."""

    def register(function: Rule) -> Rule:
        RULES.update({f"aten::{name}": function for name in names})
        return function

    return register


def output_shape(node: fx.Node) -> torch.Size:
    """Shape of the node's only output."""
    shape: torch.Size = node.meta["val"].shape
    return shape


def short_name(node: fx.Node) -> str:
    """Name of the operator: ``mean`` of ``aten.mean.dim``."""
    return str(node.target).split(".")[1]


# Convolution and linear: input labels are tied to the weight's input dimension, its output dimension goes on.


@rule("conv1d", "conv2d", "conv3d")
def convolution(lab: Labeler, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Weight of shape (out, in / groups, *kernel)."""
    x, weight = args[0], args[1]
    groups = args[6]
    spatial = len(weight.shape) - 2
    channel = len(x.shape) - spatial - 1
    read = vector(lab.carried(x, channel), channel, lab.ties)
    made, inner = lab.claim(axis(weight, 0), "output"), axis(weight, 1)
    if groups == 1:
        lab.ties.tie(read, lab.claim(inner, "input"))
    elif lab.by_whole_groups(node, groups, len(read) // groups):
        _tie_blocks(lab, read, made, groups)
    else:
        lab.ties.tie(read.view(groups, -1), lab.claim(inner, "input"))
        lab.ties.tie(made.view(groups, -1), made.view(groups, -1)[:1])
    _bias(lab, args, 2, made)
    shape = output_shape(node)
    kernel = torch.Size(weight.shape[2:]).numel()
    positions = torch.Size([*shape[:channel], *shape[channel + 1 :]]).numel()
    lab.macs(kernel * positions, made, inner, weight=weight)
    lab.makes(weight, made)
    return along(made, channel, shape)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed_convolution(lab: Labeler, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Weight of shape (in, out / groups, *kernel)."""
    x, weight = args[0], args[1]
    groups = args[6]
    spatial = len(weight.shape) - 2
    channel = len(x.shape) - spatial - 1
    read = vector(lab.carried(x, channel), channel, lab.ties)
    rows, inner = lab.claim(axis(weight, 0), "input"), axis(weight, 1)
    lab.ties.tie(read, rows)
    if groups == 1:
        made = lab.claim(inner, "output")
    elif lab.by_whole_groups(node, groups, len(read) // groups):
        block = rows.view(groups, -1)
        lab.ties.tie(block, block[:, :1])
        made = block[:, :1].expand(groups, weight.shape[1]).reshape(-1)
    else:
        lab.ties.tie(rows.view(groups, -1), rows.view(groups, -1)[:1])
        made = lab.claim(inner, "output").repeat(groups)
    _bias(lab, args, 2, made)
    shape = output_shape(node)
    kernel = torch.Size(weight.shape[2:]).numel()
    positions = torch.Size([*x.shape[:channel], *x.shape[channel + 1 :]]).numel()
    lab.macs(kernel * positions, rows, inner, weight=weight)
    lab.makes(weight, made)
    return along(made, channel, shape)


def _tie_blocks(lab: Labeler, read: Tensor, made: Tensor, groups: int) -> None:
    """A grouped convolution loses whole groups: all that a group reads goes with all that it makes."""
    blocks = torch.cat([read.view(groups, -1), made.view(groups, -1)], dim=1)
    lab.ties.tie(blocks, made.view(groups, -1)[:, :1])


def _bias(lab: Labeler, args: tuple[Any, ...], position: int, made: Tensor) -> None:
    if args[position] is not None:
        lab.ties.tie(made, lab.claim(axis(args[position], 0), "vector"))


@rule("linear")
def linear(lab: Labeler, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Weight of shape (out, in); any number of leading dimensions.

    Where the units lie along a leading dimension (an MLP-Mixer mixes positions, for each channel alike), they go on,
    and what the layer makes stays; or, if that leaves nothing to cut, the other way round.
    """
    x, weight = args[0], args[1]
    made, inner = lab.claim(axis(weight, 0), "output"), lab.claim(axis(weight, 1), "input")
    plane = narrowed(lab.carried(x, -1))
    shape = output_shape(node)
    _bias(lab, args, 2, made)
    lab.makes(weight, made)
    if any(size > 1 for size in plane.shape[:-1]) and lab.chosen(node, 2) == 0:
        lab.ties.pin(torch.cat([made, inner]), f"{lab.ties.where} runs along another dimension than the units")
        units = next(dim for dim, size in enumerate(plane.shape) if size > 1)
        lab.macs(shape.numel() // shape[units] * len(inner), vector(plane, units, lab.ties), weight=weight)
        return Labels((plane.expand(shape),))
    lab.ties.tie(vector(plane.expand(x.shape), -1, lab.ties), inner)
    lab.macs(torch.Size(shape[:-1]).numel(), made, inner, weight=weight)
    return along(made, len(shape) - 1, shape)


@rule("embedding")
def embedding(lab: Labeler, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Weight of shape (vocabulary, width); vocabulary rows are no units."""
    shape, made = output_shape(node), lab.claim(axis(args[0], 1), "output")
    lab.makes(args[0], made)
    return along(made, len(shape) - 1, shape)


# Norms: channels go together with their scale, shift and running statistics.


@rule("batch_norm", "instance_norm")
def channel_norm(lab: Labeler, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """(N, C, …) with weight, bias, running mean and variance of shape (C,).

    A weight that is standardised is normalised over what each of its outputs reads.
    """
    x = args[0]
    lab.count(node)
    if x.parameter:
        for plane in x.planes:
            for dim in varying(plane):
                if dim != 1:
                    lab.average(node, dim, plane)
        channels = axis(x, 1)
    else:
        channels = vector(x.plane, 1, lab.ties)
    for tensor in args[1:5]:
        if tensor is not None:
            lab.ties.tie(channels, lab.claim(axis(tensor, 0), "vector"))
            lab.makes(tensor, axis(tensor, 0))
    return x if x.parameter else along(channels, 1, x.shape)


@rule("_weight_norm")
def weight_norm(lab: Labeler, _: fx.Node, args: tuple[Any, ...]) -> Labels:
    """A weight made of direction and length along ``dim`` (arXiv:1602.07868); entries of 0 add nothing to a norm."""
    direction, length, dim = args
    lab.ties.tie(axis(direction, dim), lab.claim(axis(length, dim), "vector"))
    return direction  # type: ignore[no-any-return]


@rule("group_norm")
def group_norm(lab: Labeler, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """(N, C, …) normalised over each of ``groups`` blocks of channels."""
    x, groups = args[0], args[1]
    channels = vector(x.plane, 1, lab.ties)
    affine = [tensor for tensor in args[2:4] if tensor is not None]
    for tensor in affine:
        lab.ties.tie(channels, lab.claim(axis(tensor, 0), "vector"))
        lab.makes(tensor, axis(tensor, 0))
    blocks = channels.view(groups, -1)
    if groups > 1 and lab.by_whole_groups(node, groups, blocks.shape[1]):
        lab.ties.tie(blocks, blocks[:, :1])
    elif not affine:
        lab.ties.pin(channels, "a group norm without scale averages over them")
    else:
        lab.ties.tie(blocks, blocks[:1])
    return along(channels, 1, x.shape)


@rule("layer_norm", "rms_norm")
def layer_norm(lab: Labeler, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Normalised over the last ``len(normalized_shape)`` dimensions."""
    x, shape = args[0], args[1]
    first = len(x.shape) - len(shape)
    dims = [dim for dim in varying(x.plane) if dim >= first]
    affine = [tensor for tensor in args[2:4] if isinstance(tensor, Labels)]
    if len(dims) > 1 or (dims and not affine):
        lab.ties.pin(x.plane, f"{node.target} averages over them" + ("" if affine else " and has no scale"))
        return constant(x.shape)
    for tensor in affine:
        lab.makes(tensor, axis(tensor, -1))
        for dim in range(len(shape)):
            atoms = axis(tensor, dim)
            if [first + dim] == dims:
                lab.ties.tie(vector(x.plane, dims[0], lab.ties), lab.claim(atoms, "vector"))
    return x  # type: ignore[no-any-return]


@rule("prelu", "_prelu_kernel")
def prelu(lab: Labeler, _: fx.Node, args: tuple[Any, ...]) -> Labels:
    """(N, C, …) with one slope for all channels or one for each."""
    x, slope = args[0], args[1]
    if torch.Size(slope.shape).numel() > 1:
        lab.ties.tie(vector(x.plane, 1, lab.ties), lab.claim(slope.planes[0].reshape(-1), "vector"))
        lab.makes(slope, slope.planes[0].reshape(-1))
    return x  # type: ignore[no-any-return]


# Pooling and resizing: channels pass through.


@rule(
    *(f"{pool}_pool{d}d" for pool in ("max", "avg", "adaptive_max", "adaptive_avg", "lp") for d in (1, 2, 3)),
    "max_pool2d_with_indices",
    *(f"upsample_nearest{d}d" for d in (1, 2, 3)),
    *(f"upsample_{mode}" for mode in ("linear1d", "bilinear2d", "trilinear3d", "bicubic2d")),
    *(f"_upsample_{mode}" for mode in ("nearest_exact1d", "nearest_exact2d", "bilinear2d_aa", "bicubic2d_aa")),
    *(f"{mode}_pad{d}d" for mode in ("reflection", "replication") for d in (1, 2, 3)),
    "grid_sampler",
)  # fmt: skip
def channelwise(lab: Labeler, node: fx.Node, args: tuple[Any, ...]) -> Any:
    """(…, C, *space) to (…, C, *space')."""
    x = args[0]
    values = node.meta["val"]
    digits = [int(c) for c in str(node.target) if c in "123"]
    channel = len(x.shape) - (digits[0] if digits else 2) - 1
    channels = vector(lab.carried(x, channel), channel, lab.ties)
    if isinstance(values, Sequence):
        return tuple(along(channels, channel, value.shape) for value in values)
    return along(channels, channel, values.shape)


@rule("im2col")
def im2col(lab: Labeler, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """(N, C, H, W) to (N, C × taps, L)."""
    channels = vector(lab.carried(args[0], -3), -3, lab.ties)
    shape = output_shape(node)
    return along(channels.repeat_interleave(shape[-2] // len(channels)), len(shape) - 2, shape)


@rule("col2im")
def col2im(lab: Labeler, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """(N, C × taps, L) to (N, C, H, W)."""
    shape = output_shape(node)
    channels = vector(lab.carried(args[0], -2), -2, lab.ties).view(shape[-3], -1)
    lab.ties.tie(channels, channels[:, :1])
    return along(channels[:, 0], len(shape) - 3, shape)


def _padded(plane: Tensor, amounts: list[int]) -> Tensor:
    """Constants along dimensions of units; elsewhere what is added belongs to its unit as the rest does."""
    shape = list(plane.shape)
    for number, amount in enumerate(amounts):
        shape[-1 - number // 2] += amount
    along_units = set(varying(plane))
    inner = [a if plane.ndim - 1 - n // 2 in along_units else 0 for n, a in enumerate(amounts)]
    plane = torch.nn.functional.pad(narrowed(plane), inner)
    return plane.expand(shape)


@rule("pad", "constant_pad_nd")
def pad(lab: Labeler, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Padded entries are constants; other modes repeat entries along dimensions that do not vary."""
    x, amounts = args[0], args[1]
    mode = args[2] if isinstance(args[2], str) else "constant"
    if mode == "constant":
        return lab.moved(node, x, [_padded(plane, list(amounts)) for plane in x.planes])
    padded = [len(x.shape) - 1 - i // 2 for i, amount in enumerate(amounts) if amount]
    for dim in padded:
        if varies(x.plane, dim):
            lab.ties.pin(x.plane, f"{mode} padding repeats them")
            return constant(output_shape(node))
    plane = narrowed(x.plane)
    return Labels((plane.expand(output_shape(node)),))
