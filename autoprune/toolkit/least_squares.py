"""Least squares that stay near given weights, for many layers alike.

Shapes use: g groups of a layer (1 unless it is a convolution in groups), R rows, F features that an output of a group
reads, O outputs of a group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 4096
"""Rows whose products are summed in float32, before they are added in float64."""
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

    @classmethod
    def of(cls, x: Tensor, t: Tensor) -> Moments:
        """Of rows x (g, R, F) and targets t (g, R, O), float32."""
        import torch

        wide = torch.float64
        return cls(x.shape[1], x.sum(1, dtype=wide), t.sum(1, dtype=wide), _products(x, x), _products(x, t))

    def __add__(self, other: Moments) -> Moments:
        """Those of both."""
        return Moments(
            self.count + other.count,
            self.inputs + other.inputs,
            self.targets + other.targets,
            self.gram + other.gram,
            self.cross + other.cross,
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


@dataclass(frozen=True)
class Rectified:
    """What a ReLU takes of a layer in the network that it is fitted to.

    Where that gives 0, whatever it makes 0 is as good. What comes out of a ReLU is what Zhang et al., "Accelerating
    Very Deep Convolutional Networks for Classification and Detection", arXiv:1505.06798, fit, too.
    """

    taken: Tensor
    """(g, R, O)."""
    gain: Tensor
    """What the layer's outputs are multiplied with on the way there, (g, 1, O); 0 where that is hardly anything."""

    def __getitem__(self, some: slice) -> Rectified:
        """Those rows."""
        return Rectified(self.taken[:, some], self.gain)

    def targets(self, targets: Tensor, told: Tensor) -> Tensor:
        """Targets, (g, R, O), of which those are moved to what is told that are as good there."""
        flat = self.gain == 0
        over = (self.taken + self.gain * (told - targets)).relu() / self.gain.masked_fill(flat, 1)
        return targets.where((self.taken > 0) | flat, told - over)


@dataclass(frozen=True)
class Rows:
    """Rows to fit weights to, and to tell how far weights are from them."""

    x: Tensor
    """(g, R, F), float32."""
    t: Tensor
    """(g, R, O), float32."""
    rectified: Rectified | None = None
    """If nothing but a ReLU reads what comes of the outputs."""

    def __getitem__(self, some: slice) -> Rows:
        """Those rows."""
        return Rows(self.x[:, some], self.t[:, some], self.rectified and self.rectified[some])

    @property
    def spread(self) -> Tensor:
        """Mean squared distance of the targets from their mean, summed over outputs, of shape ()."""
        return self.t.double().var(1, correction=0).sum()

    @property
    def square(self) -> Tensor:
        """Mean square of the targets, summed over outputs, of shape ()."""
        import torch

        return self.t.square().mean(1, dtype=torch.float64).sum()

    def bias(self, weight: Tensor) -> Tensor:
        """The best constant for weights (g, O, F), (g, O)."""
        x, t = self.x.mean(1).double(), self.t.mean(1).double()
        return t - (weight @ x.unsqueeze(2)).squeeze(2)

    def told(self, weight: Tensor, bias: Tensor) -> Tensor:
        """What weights (g, O, F) and constants (g, O) make of the rows, (g, R, O)."""
        import torch

        return torch.baddbmm(bias.to(self.x.dtype).unsqueeze(1), self.x, weight.to(self.x.dtype).mT)

    def targets(self, told: Tensor) -> Tensor:
        """The nearest of those that are as good as the rows' own, (g, R, O)."""
        return self.t if self.rectified is None else self.rectified.targets(self.t, told)

    def error(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Mean squared error of weights (g, O, F) and constants (g, O), summed over outputs, of shape ()."""
        import torch

        told = self.told(weight, bias)
        return (self.targets(told) - told).square_().mean(1, dtype=torch.float64).sum()


class Fitting:
    """Fits of weights to the same inputs, towards several targets.

    The solutions are those of `ridge`; with fewer rows than features they are found among combinations of the rows,
    which takes a matrix of R² instead of F² numbers. Two such matrices are held in float64 for each group, and a copy
    of the inputs.
    """

    def __init__(
        self,
        x: Tensor,
        near: Tensor,
        bias: Tensor,
        *,
        damping: float,
        centre: bool,
        support: Tensor | None = None,
    ) -> None:
        """Prepare.

        Args:
            x: The inputs, (g, R, F), float32.
            near: The given weights, (g, O, F), float64.
            bias: The given constants, (g, O), float64.
            damping: As for `ridge`.
            centre: Whether constants are fitted; the given ones stay otherwise.
            support: As for `ridge`.
        """
        import torch

        self._origin = x.mean(1, keepdim=True) if centre else x.new_zeros(1, 1, 1)
        self._x = x - self._origin if centre else x
        self._near, self._bias, self._centre, self._support = near, bias, centre, support
        self._by_rows = support is None and x.shape[1] < x.shape[2]
        damped = (self._x @ self._x.mT).double() if self._by_rows else _products(self._x, self._x)
        share = damped.diagonal(dim1=1, dim2=2).sum(1, keepdim=True) / x.shape[2]
        self._pull = damping * share.clamp_min(torch.finfo(torch.float32).tiny)
        damped.diagonal(dim1=1, dim2=2).add_(self._pull)
        self._solvable = torch.linalg.cholesky(damped) if support is None else damped

    def towards(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (g, O, F) and constants (g, O) for targets (g, R, O)."""
        middle = targets.mean(1, keepdim=True) if self._centre else self._bias.to(targets.dtype).unsqueeze(1)
        weight = self._solve(targets - middle)
        if not self._centre:
            return weight, self._bias
        return weight, (middle.double() - self._origin.double() @ weight.mT).squeeze(1)

    def _solve(self, t: Tensor) -> Tensor:
        import torch

        near, x = self._near, self._x
        if self._support is not None:
            right = _products(x, t).mT + self._pull.unsqueeze(2) * near
            return _on_support(self._solvable, right, near, self._support)
        # What is missing from the given weights, so that no digit is lost where they fit already.
        missing = t - x @ near.to(x.dtype).mT
        if self._by_rows:
            share = torch.cholesky_solve(missing.double(), self._solvable)
            return near + share.to(x.dtype).mT @ x
        return near + torch.cholesky_solve(_products(x, missing), self._solvable).mT


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


def _products(x: Tensor, y: Tensor) -> Tensor:
    """Σ x yᵀ over rows, (g, F, O): in float32, blocks of them in float64."""
    total = (x[:, :_BLOCK].mT @ y[:, :_BLOCK]).double()
    for first in range(_BLOCK, x.shape[1], _BLOCK):
        total += x[:, first : first + _BLOCK].mT @ y[:, first : first + _BLOCK]
    return total


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
