"""Pooling, resizing and padding: channels pass through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from autoprune.structure.graph.coupling import Coupling
from autoprune.structure.graph.labels import Labels, along, constant, narrowed, varies, varying, vector
from autoprune.structure.graph.operators import output_shape
from autoprune.structure.graph.rules.moves import moved
from autoprune.structure.graph.rules.registry import rule


@rule(
    *(f"{pool}_pool{d}d" for pool in ("max", "avg", "adaptive_max", "adaptive_avg", "lp") for d in (1, 2, 3)),
    *(f"max_pool{d}d_with_indices" for d in (1, 2, 3)),
    *(f"upsample_nearest{d}d" for d in (1, 2, 3)),
    *(f"upsample_{mode}" for mode in ("linear1d", "bilinear2d", "trilinear3d", "bicubic2d")),
    *(f"_upsample_{mode}" for mode in ("nearest_exact1d", "nearest_exact2d", "bilinear2d_aa", "bicubic2d_aa")),
    *(f"{mode}_pad{d}d" for mode in ("reflection", "replication") for d in (1, 2, 3)),
    "grid_sampler",
)  # fmt: skip
def channelwise(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Any:
    """(…, C, *space) to (…, C, *space')."""
    x = args[0]
    values = node.meta["val"]
    digits = [int(c) for c in str(node.target) if c in "123"]
    channel = len(x.shape) - (digits[0] if digits else 2) - 1
    channels = vector(coupling.carried(x, channel), channel, coupling.ties)
    coupling.pin_all(args[1:], f"{coupling.ties.where} reads them as places")
    if isinstance(values, Sequence):
        return tuple(along(channels, channel, value.shape) for value in values)
    return along(channels, channel, values.shape)


@rule("max_unpool2d", "max_unpool3d")
def unpooling(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """(…, C, *space) and as many places to (…, C, *space')."""
    x, places = args[:2]
    channel = len(x.shape) - len(args[2]) - 1
    channels = vector(coupling.carried(x, channel), channel, coupling.ties)
    coupling.ties.tie(channels, vector(coupling.carried(places, channel), channel, coupling.ties))
    return along(channels, channel, output_shape(node))


@rule("im2col")
def im2col(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """(N, C, H, W) to (N, C × taps, L)."""
    channels = vector(coupling.carried(args[0], -3), -3, coupling.ties)
    shape = output_shape(node)
    return along(channels.repeat_interleave(shape[-2] // len(channels)), len(shape) - 2, shape)


@rule("col2im")
def col2im(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """(N, C × taps, L) to (N, C, H, W)."""
    shape = output_shape(node)
    channels = vector(coupling.carried(args[0], -2), -2, coupling.ties).view(shape[-3], -1)
    coupling.ties.tie(channels, channels[:, :1])
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
def pad(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Padded entries are constants; other modes repeat entries along dimensions that do not vary."""
    x, amounts = args[0], args[1]
    mode = args[2] if isinstance(args[2], str) else "constant"
    if mode == "constant":
        return moved(coupling, node, x, [_padded(plane, list(amounts)) for plane in x.planes])
    padded = [len(x.shape) - 1 - i // 2 for i, amount in enumerate(amounts) if amount]
    for dim in padded:
        if varies(x.plane, dim):
            coupling.ties.pin(x.plane, f"{mode} padding repeats them")
            return constant(output_shape(node))
    plane = narrowed(x.plane)
    return Labels((plane.expand(output_shape(node)),))
