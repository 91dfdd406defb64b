"""Operators that move entries about run on the labels; units that they spread over dimensions are cut along one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from autoprune.structure.graph.coupling import Coupling
from autoprune.structure.graph.labels import Labels, along, axis, narrowed, varying
from autoprune.structure.graph.operators import operator_name, output_shape, ways


def moved(coupling: Coupling, node: fx.Node, x: Labels, planes: Sequence[Tensor]) -> Labels:
    """Labels after entries moved; an activation is cut along one dimension, so the others are tied."""
    if x.parameter:
        return Labels(tuple(planes), parameter=True)
    if x.several and len(varying(planes[0])) <= 1:
        return _apart(coupling, node, planes)
    for other in planes[1:]:
        coupling.ties.pin(other, f"{coupling.ties.where} mixes them with others")
    plane = narrowed(planes[0])
    dims = varying(plane)
    if len(dims) > 1:
        likely = ways(node, x.plane, plane.shape, dims)
        keep = likely[coupling.chosen(node, len(likely), [plane.reshape(-1)] * len(likely))]
        coupling.named(node, x.plane)
        for dim in dims:
            if dim != keep:
                first = plane.narrow(dim, 0, 1)
                coupling.ties.tie(plane, first)
                plane = first
    coupling.named(node, plane)
    return Labels((plane.expand(planes[0].shape),))


def _apart(coupling: Coupling, node: fx.Node, planes: Sequence[Tensor]) -> Labels:
    """Units along several dimensions that are still along one each; the others stay."""
    kept: dict[tuple[int, ...], Tensor] = {}
    for plane in planes:
        dims = varying(plane)
        if len(dims) > 1 or dims in kept:
            coupling.ties.pin(plane, f"{coupling.ties.where} mixes them with others")
            continue
        kept[dims] = plane
        coupling.named(node, narrowed(plane))
    return Labels(tuple(kept.values()))


def move(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Any:
    """Labels after an operator that only moves entries about."""
    name, shape, x = operator_name(node), output_shape(node), args[0]
    if isinstance(x, Labels):
        if name.endswith(("view", "view_as", "reshape", "reshape_as", "flatten", "unflatten")):
            planes = [plane.reshape(shape) for plane in x.planes]
        else:
            planes = [node.target(plane, *args[1:], **node.kwargs) for plane in x.planes]  # type: ignore[operator]
        return moved(coupling, node, x, planes)
    activations = [part for part in x if not part.parameter]
    if not activations:
        return _joined(coupling, node, x, args[1] if len(args) > 1 else 0)
    dims = {dim for part in activations for dim in varying(part.plane)}
    if not dims and not name.endswith("stack"):
        dims = {(args[1] if len(args) > 1 else 0) % len(shape)}
    planes = []
    for part in x:
        # Of a parameter among activations (a class token), the plane that varies as they do.
        fit = [plane for plane in part.planes if set(varying(plane)) <= dims] if part.parameter else [part.plane]
        chosen = fit[-1] if fit and dims else torch.zeros(part.shape, dtype=torch.int64)
        for plane in part.planes:
            if part.parameter and plane is not chosen:
                coupling.ties.pin(plane, f"used whole by {coupling.ties.where}")
        if part.parameter:
            coupling.claim(narrowed(chosen), "vector")
        planes.append(chosen)
    joined = node.target(planes, *args[1:])  # type: ignore[operator]
    units = next((plane for plane in planes if varying(plane)), planes[0])
    return moved(coupling, node, Labels((units,)), [joined])


def _joined(coupling: Coupling, node: fx.Node, parts: Sequence[Labels], dim: int) -> Labels:
    """Parameters joined: along ``dim`` their atoms follow each other, along the others they are cut alike."""
    shape = node.meta["val"].shape
    dim %= len(shape)
    stacked = len(shape) > len(parts[0].shape)
    planes = []
    for other in range(len(parts[0].shape)):
        atoms = [axis(part, other) for part in parts]
        place = other + (stacked and other >= dim)
        if other == dim and not stacked:
            planes.append(along(torch.cat(atoms), place, shape).plane)
            continue
        for more in atoms[1:]:
            coupling.ties.tie(atoms[0], more)
        planes.append(along(atoms[0], place, shape).plane)
    return Labels(tuple(planes), parameter=True)
