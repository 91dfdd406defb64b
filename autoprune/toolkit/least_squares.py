"""Least squares that stay near given weights, for many layers alike.

Shapes use: g groups of a layer (1 unless it is a convolution in groups), R rows, F features that an output of a group
reads, O outputs of a group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_STEPS = 60
"""Of conjugate gradients, at most."""
_CLOSE = 1e-5
"""Residual, relative to where it began, at which they end."""


@dataclass(frozen=True)
class Moments:
    """What a fit needs to know of rows: sums of products, in float64."""

    count: int
    inputs: Tensor
    """Σ x, (g, F)."""
    targets: Tensor
    """Σ t, (g, O)."""
    gram: Tensor
    """Σ x xᵀ, (g, F, F)."""
    cross: Tensor
    """Σ x tᵀ, (g, F, O)."""
    squares: Tensor
    """Σ t², (g, O)."""

    @classmethod
    def of(cls, x: Tensor, t: Tensor) -> Moments:
        """Of rows x (g, R, F) and targets t (g, R, O); products are summed in float32, blocks of them in float64."""
        return cls(
            x.shape[1],
            x.sum(1).double(),
            t.sum(1).double(),
            (x.mT @ x).double(),
            (x.mT @ t).double(),
            t.double().square().sum(1),
        )

    def __add__(self, other: Moments) -> Moments:
        """Those of both."""
        return Moments(
            self.count + other.count,
            self.inputs + other.inputs,
            self.targets + other.targets,
            self.gram + other.gram,
            self.cross + other.cross,
            self.squares + other.squares,
        )

    @property
    def centred(self) -> tuple[Tensor, Tensor]:
        """Covariance of the inputs, (g, F, F), and of inputs and targets, (g, F, O)."""
        x, t = self.inputs / self.count, self.targets / self.count
        gram = self.gram / self.count - x.unsqueeze(2) * x.unsqueeze(1)
        cross = self.cross / self.count - x.unsqueeze(2) * t.unsqueeze(1)
        return gram, cross

    def bias(self, weight: Tensor) -> Tensor:
        """The best constant for weights (g, O, F), (g, O)."""
        return (self.targets - (weight @ self.inputs.unsqueeze(2)).squeeze(2)) / self.count

    def error(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Mean squared error of weights (g, O, F) and constants (g, O), summed over outputs, of shape ()."""
        n = self.count
        quadratic = (weight @ self.gram * weight).sum((0, 1, 2)) - 2 * (weight * self.cross.mT).sum()
        predicted = (weight @ self.inputs.unsqueeze(2)).squeeze(2)
        constant = n * bias.square().sum() + 2 * (bias * (predicted - self.targets)).sum()
        return (quadratic + constant + self.squares.sum()) / n


def ridge(moments: Moments, near: Tensor, *, damping: float, centre: bool, support: Tensor | None = None) -> Tensor:
    """Weights (g, O, F) that minimise the squared error plus λ times their squared distance from given ones.

    ``W = (R + λ W₀) (S + λ I)⁻¹`` with the (co)variances S and R, λ being ``damping`` times S's mean variance. The
    damping keeps what the rows tell nothing about as it is.

    Args:
        moments: Of the rows.
        near: The given weights, (g, O, F), float64.
        damping: See above; above 0.
        centre: Whether a constant is fitted besides.
        support: Entries that may differ from 0, (g, O, F); all if None. The fit is then solved by conjugate gradients
            in those entries alone.
    """
    import torch

    gram, cross = moments.centred if centre else (moments.gram / moments.count, moments.cross / moments.count)
    scale = gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(torch.float32).tiny)
    damped = gram + (damping * scale)[:, None, None] * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    right = cross.mT + (damping * scale)[:, None, None] * near
    if support is not None:
        return _on_support(damped, right, near, support)
    # What is missing from the given weights, so that no digit is lost where they fit already.
    factor = torch.linalg.cholesky(damped)
    return near + torch.cholesky_solve((right - near @ damped).mT, factor).mT


def _on_support(damped: Tensor, right: Tensor, near: Tensor, support: Tensor) -> Tensor:
    """The same in some entries alone: conjugate gradients for all outputs at once, preconditioned by the diagonal."""
    import torch

    where = support.to(damped.dtype)
    scale = damped.diagonal(dim1=1, dim2=2).unsqueeze(1)
    weight = near * where
    residual = (right - weight @ damped) * where
    began = residual.square().sum(2, keepdim=True)
    z = residual / scale
    direction, rho = z, (residual * z).sum(2, keepdim=True)
    for _ in range(_STEPS):
        if bool((residual.square().sum(2, keepdim=True) <= _CLOSE**2 * began).all()):
            break
        image = (direction @ damped) * where
        step = rho / (direction * image).sum(2, keepdim=True).clamp_min(torch.finfo(damped.dtype).tiny)
        weight, residual = weight + step * direction, residual - step * image
        z = residual / scale
        before, rho = rho, (residual * z).sum(2, keepdim=True)
        direction = z + rho / before.clamp_min(torch.finfo(damped.dtype).tiny) * direction
    return weight
