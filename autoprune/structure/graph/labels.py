"""Labels on activations: which unit every entry of every tensor of the graph belongs to.

Shapes: an activation's labels have the activation's own shape. A parameter has one *plane* of labels for each
dimension larger than 1, since its entries belong to one atom per dimension. Planes are expanded views wherever they do
not vary, so that a dimension of stride 0 is known not to vary without a look at it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autoprune.structure.graph.ties import CONSTANT, Ties


@dataclass(frozen=True)
class Labels:
    """Labels of one tensor."""

    planes: tuple[Tensor, ...]
    """int64, each of the tensor's shape; one for an activation, or one for each of two dimensions that carry units."""
    parameter: bool = False
    """Whether it is a parameter or buffer, or made of them alone."""

    @property
    def shape(self) -> torch.Size:
        """Shape of the tensor."""
        return self.planes[0].shape

    @property
    def plane(self) -> Tensor:
        """The plane of an activation; the first of several."""
        return self.planes[0]

    @property
    def several(self) -> bool:
        """Whether it is an activation with units along several dimensions, as where tokens are mixed."""
        return not self.parameter and len(self.planes) > 1


def constant(shape: torch.Size | tuple[int, ...]) -> Labels:
    """Labels of a tensor that depends on no unit that could go."""
    return Labels((torch.full(tuple(shape), CONSTANT, dtype=torch.int64),))


def along(vector: Tensor, dim: int, shape: torch.Size | tuple[int, ...]) -> Labels:
    """Labels that vary along one dimension alone: ``vector`` of shape (shape[dim],)."""
    view = [1] * len(shape)
    view[dim] = len(vector)
    return Labels((vector.view(view).expand(tuple(shape)),))


def varies(plane: Tensor, dim: int) -> bool:
    """Whether labels differ along that dimension."""
    if plane.shape[dim] <= 1 or plane.stride(dim) == 0:
        return False
    return not bool((plane == plane.narrow(dim, 0, 1)).all())


def varying(plane: Tensor) -> tuple[int, ...]:
    """Dimensions along which the labels differ."""
    return tuple(dim for dim in range(plane.ndim) if varies(plane, dim))


def narrowed(plane: Tensor) -> Tensor:
    """The plane with every dimension along which it does not vary narrowed to size 1."""
    for dim in range(plane.ndim):
        if plane.shape[dim] > 1 and not varies(plane, dim):
            plane = plane.narrow(dim, 0, 1)
    return plane


def vector(plane: Tensor, dim: int, ties: Ties) -> Tensor:
    """Labels along one dimension, of shape (shape[dim],), after tying what differs across the others."""
    dim %= plane.ndim
    size = plane.shape[dim]
    plane = narrowed(plane)
    for other in range(plane.ndim):
        if other != dim and plane.shape[other] > 1:
            first = plane.narrow(other, 0, 1)
            ties.tie(plane, first)
            plane = first
    return plane.reshape(-1).expand(size) if plane.shape[dim] != size else plane.reshape(-1)


def axis(labels: Labels, dim: int) -> Tensor:
    """A parameter's atoms along one of its dimensions, of shape (shape[dim],); constant where it has none there."""
    dim %= len(labels.shape)
    for plane in labels.planes:
        if varying(plane) == (dim,):
            return plane.movedim(dim, 0).reshape(labels.shape[dim], -1)[:, 0]
    return torch.zeros(labels.shape[dim], dtype=torch.int64)
