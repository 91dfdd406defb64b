"""Least squares that stay near given weights, for many layers alike.

Shapes use: g groups of a layer (1 unless it is a convolution in groups), R rows, F features that an output of a group
reads, O outputs of a group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
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
    squares: Tensor
    """Σ t², (g, O)."""

    @classmethod
    def of(cls, x: Tensor, t: Tensor) -> Moments:
        """Of rows x (g, R, F) and targets t (g, R, O); products are summed in float32, blocks of them in float64."""
        import torch

        gram = x.new_zeros((x.shape[0], x.shape[2], x.shape[2])).double()
        cross = x.new_zeros((x.shape[0], x.shape[2], t.shape[2])).double()
        for first in range(0, x.shape[1], _BLOCK):
            some, wanted = x[:, first : first + _BLOCK].float(), t[:, first : first + _BLOCK].float()
            gram += some.mT @ some
            cross += some.mT @ wanted
        wide = torch.float64
        squares = t.square().sum(1, dtype=wide)
        return cls(x.shape[1], x.sum(1, dtype=wide), t.sum(1, dtype=wide), gram, cross, squares)

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

    def less(self, bias: Tensor) -> Moments:
        """Those of targets less constants, (g, O)."""
        return Moments(
            self.count,
            self.inputs,
            self.targets - self.count * bias,
            self.gram,
            self.cross - self.inputs.unsqueeze(2) * bias.unsqueeze(1),
            self.squares - 2 * bias * self.targets + self.count * bias.square(),
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


@dataclass(frozen=True)
class Rows:
    """Rows to fit weights to, and to tell how far weights are from them.

    A fit holds three matrices of min(R, F)² float64 numbers for each group, and a copy of the rows.
    """

    x: Tensor
    """(g, R, F), float32."""
    t: Tensor
    """(g, R, O), float32."""
    parts: tuple[Rows, ...] = ()
    """Those that it consists of, if their sums of products are to be used again."""

    def __getitem__(self, some: slice) -> Rows:
        """Those rows."""
        return Rows(self.x[:, some], self.t[:, some])

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
        x, t = self._means
        return t - (weight @ x.unsqueeze(2)).squeeze(2)

    def error(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Mean squared error of weights (g, O, F) and constants (g, O), summed over outputs, of shape ()."""
        import torch

        left = self.t - self.x @ weight.to(self.x.dtype).mT - bias.to(self.x.dtype).unsqueeze(1)
        return left.square_().mean(1, dtype=torch.float64).sum()

    def ridges(
        self,
        near: Tensor,
        bias: Tensor,
        *,
        dampings: Sequence[float],
        centre: bool,
        support: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Weights as `ridge` gives them, and constants, for one damping after the other.

        With fewer rows than features the same solutions are found among combinations of the rows, which takes a matrix
        of R² instead of F² numbers.

        Args:
            near: The given weights, (g, O, F), float64.
            bias: The given constants, (g, O), float64.
            dampings: As for `ridge`.
            centre: Whether constants are fitted; the given ones stay otherwise.
            support: As for `ridge`.
        """
        if support is None and self.x.shape[1] < self.x.shape[2]:
            found = _of_rows(*self._from(bias, centre=centre), near, dampings)
        else:
            sums = self._sums if centre else self._sums.less(bias)
            found = (ridge(sums, near, damping=each, centre=centre, support=support) for each in dampings)
        for weight in found:
            yield weight, self.bias(weight) if centre else bias

    @cached_property
    def _means(self) -> tuple[Tensor, Tensor]:
        import torch

        return self.x.mean(1, dtype=torch.float64), self.t.mean(1, dtype=torch.float64)

    @cached_property
    def _sums(self) -> Moments:
        return (
            sum((part._sums for part in self.parts[1:]), self.parts[0]._sums)
            if self.parts
            else Moments.of(self.x, self.t)
        )

    def _from(self, bias: Tensor, *, centre: bool) -> tuple[Tensor, Tensor]:
        """Inputs and targets from their means, or targets from given constants."""
        if centre:
            return self.x - self.x.mean(1, keepdim=True), self.t - self.t.mean(1, keepdim=True)
        return self.x, self.t - bias.to(self.t.dtype).unsqueeze(1)


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


def _of_rows(x: Tensor, t: Tensor, near: Tensor, dampings: Sequence[float]) -> Iterator[Tensor]:
    """The same by way of the rows: W = W₀ + (T - X W₀ᵀ)ᵀ (X Xᵀ + R λ I)⁻¹ X."""
    import torch

    kernel = (x @ x.mT).double()
    scale = (kernel.diagonal(dim1=1, dim2=2).sum(1) / x.shape[2]).clamp_min(torch.finfo(torch.float32).tiny)
    x = x.double()
    left = t.double() - x @ near.mT
    for damping in dampings:
        damped = kernel + (damping * scale)[:, None, None] * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        yield near + torch.cholesky_solve(left, torch.linalg.cholesky(damped)).mT @ x


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
