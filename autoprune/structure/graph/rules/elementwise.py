"""Operators that act entry by entry: what meets in an entry is tied."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from autoprune.structure.graph.coupling import Coupling
from autoprune.structure.graph.labels import Labels, narrowed, varying


def elementwise(coupling: Coupling, operands: Sequence[Labels], shape: torch.Size) -> Labels:
    """Ties broadcast operands entry by entry."""
    aligned = [Labels(tuple(_aligned(p, len(shape)) for p in x.planes), x.parameter) for x in operands]
    seconds = {varying(plane) for x in aligned if x.several for plane in x.planes[1:]}
    activations = [_first(x, seconds) for x in aligned if not x.parameter]
    parameters = [x for x in aligned if x.parameter]
    if not activations:
        return _parameters(coupling, parameters, shape)
    result = activations[0]
    for other in activations[1:]:
        result = _merge(coupling, result, other, shape)
    if parameters and not result.any():
        return _with_constants(coupling, result, parameters, shape)
    others = _others(coupling, aligned)
    for parameter in parameters:
        dims = varying(result)
        for plane in parameter.planes:
            if dims and varying(plane) == dims:
                coupling.claim(narrowed(plane), "vector")
                result = _merge(coupling, result, plane, shape)
            elif varying(plane) not in others:
                coupling.ties.pin(plane, f"used whole by {coupling.ties.where}")
        if any(parameter.shape[dim] != 1 for dim in dims) and not any(varying(p) == dims for p in parameter.planes):
            coupling.ties.pin(result, f"mixed with a whole parameter by {coupling.ties.where}")
    return Labels((result.expand(shape), *(plane.expand(shape) for plane in others.values())))


def _first(x: Labels, seconds: Collection[tuple[int, ...]]) -> Tensor:
    """The plane that meets the first ones of others; constant if it is one that meets second ones."""
    alone = not x.several and varying(x.plane) in seconds
    return torch.zeros((), dtype=torch.int64).expand(x.shape) if alone else x.plane


def _others(coupling: Coupling, operands: Sequence[Labels]) -> dict[tuple[int, ...], Tensor]:
    """Planes besides the first, by their dimension: they go on where all that is not spread over it has units there."""
    found: dict[tuple[int, ...], Tensor] = {}
    for plane in (plane for x in operands if x.several for plane in x.planes[1:]):
        dims = varying(plane)
        alike = [next((p for p in x.planes if varying(p) == dims), None) for x in operands]
        if any(p is None and any(x.shape[dim] > 1 for dim in dims) for p, x in zip(alike, operands, strict=True)):
            coupling.ties.pin(plane, f"{coupling.ties.where} mixes them with what cannot be cut")
            continue
        for p, x in zip(alike, operands, strict=True):
            if p is not None:
                coupling.ties.tie(narrowed(plane), narrowed(p))
                if x.parameter:
                    coupling.claim(narrowed(p), "vector")
        found[dims] = plane
    return found


def _merge(coupling: Coupling, a: Tensor, b: Tensor, shape: torch.Size) -> Tensor:
    along_a, along_b = varying(a), varying(b)
    if not along_a and along_b:
        return _merge(coupling, b, a, shape)
    if along_a and along_b and along_a != along_b:
        reason = f"{coupling.ties.where} spreads them over each other"
        for goes_on, stays in ((a, b), (b, a)):
            if all(stays.shape[dim] == 1 for dim in varying(goes_on)):
                coupling.ties.pin(stays, reason)
                return goes_on
        for plane in (a, b):
            coupling.ties.pin(plane, reason)
        return torch.zeros((), dtype=torch.int64).expand(shape)
    if along_a and not along_b:
        label = narrowed(b)
        if label.any():
            coupling.ties.pin(label, f"its one value acts on many units in {coupling.ties.where}")
            return a
        if all(b.shape[dim] == 1 for dim in along_a):
            return a
    coupling.ties.tie(narrowed(a), narrowed(b))
    return a if narrowed(a).any() else b


def _with_constants(coupling: Coupling, constant: Tensor, parameters: Sequence[Labels], shape: torch.Size) -> Labels:
    """Parameters go on along the dimensions that the constant is spread over."""
    free = []
    for parameter in parameters:
        planes = [plane for plane in parameter.planes if all(constant.shape[dim] == 1 for dim in varying(plane))]
        for plane in parameter.planes:
            if varying(plane) and not any(plane is each for each in planes):
                coupling.ties.pin(plane, f"used whole by {coupling.ties.where}")
        free += [Labels((plane,), parameter=True) for plane in planes if varying(plane)]
    return _parameters(coupling, free, shape) if free else Labels((constant.expand(shape),))


def _parameters(coupling: Coupling, parameters: Sequence[Labels], shape: torch.Size) -> Labels:
    planes: dict[tuple[int, ...], Tensor] = {}
    for parameter in parameters:
        for plane in parameter.planes:
            dims = varying(plane)
            if dims in planes:
                coupling.ties.tie(narrowed(planes[dims]), narrowed(plane))
            planes.setdefault(dims, plane.expand(shape))
    if len(planes) > 1:
        planes.pop((), None)
    return Labels(tuple(planes.values()), parameter=True)


def _aligned(plane: Tensor, ndim: int) -> Tensor:
    return plane.reshape((1,) * (ndim - plane.ndim) + plane.shape)
