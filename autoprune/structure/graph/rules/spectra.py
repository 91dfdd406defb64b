"""Fourier transforms and complex numbers: units along other dimensions than those transformed go on."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx

from autoprune.structure.graph.coupling import Coupling
from autoprune.structure.graph.labels import Labels, narrowed, varies
from autoprune.structure.graph.operators import output_shape, short_name
from autoprune.structure.graph.rules.registry import rule

_TRANSFORMS = [f"fft_{kind}fft{over}" for kind in ("", "i", "r", "ir", "h", "ih") for over in ("", "2", "n")]


@rule(*_TRANSFORMS)
def transform(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Sums over dimensions, whose sizes may change, for each entry along the others."""
    x, sizes, dims = args[:3]
    if dims is None:
        dims = range(-len(x.shape if sizes is None else sizes), 0)
    over = {dim % len(x.shape) for dim in ([dims] if isinstance(dims, int) else dims)}
    planes = _without(coupling, x, over, f"{short_name(node)} mixes them")
    return Labels(tuple(narrowed(plane).expand(output_shape(node)) for plane in planes), x.parameter)


@rule("view_as_complex")
def complex_numbers(coupling: Coupling, _: fx.Node, args: tuple[Any, ...]) -> Labels:
    """(…, 2) to (…)."""
    x = args[0]
    planes = _without(coupling, x, {len(x.shape) - 1}, "they are parts of one complex number")
    return Labels(tuple(plane.select(-1, 0) for plane in planes), x.parameter)


@rule("view_as_real")
def pairs(_: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """(…) to (…, 2)."""
    x = args[0]
    return Labels(tuple(plane.unsqueeze(-1).expand(output_shape(node)) for plane in x.planes), x.parameter)


def _without(coupling: Coupling, x: Labels, dims: Collection[int], reason: str) -> list[Tensor]:
    """Planes that do not vary along some dimensions; the units of others stay."""
    kept = []
    for plane in x.planes:
        if any(varies(plane, dim) for dim in dims):
            coupling.ties.pin(plane, reason)
        else:
            kept.append(plane)
    return kept or [torch.zeros((), dtype=torch.int64).expand(x.shape)]
