"""Norm balls around inputs, for attacks and whatever else perturbs inputs within an epsilon.

Shapes use: N samples, and … for whatever a sample's shape is. Epsilon is in the units of the inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Ball(Protocol):
    """All perturbations (N, …) whose norm is at most an epsilon."""

    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Uniform in the ball, of the shape, type and device of ``like`` (N, …).

        Drawn on the CPU, by a generator of the CPU, so that every device gets the same.
        """

    def steepest(self, gradient: Tensor) -> Tensor:
        """The perturbation of norm 1 that climbs fastest along a gradient (N, …); 0 where the gradient is."""

    def project(self, perturbation: Tensor) -> Tensor:
        """The nearest perturbation in the ball, (N, …)."""


@dataclass(frozen=True)
class Linf:
    """No value moves by more than epsilon."""

    epsilon: float

    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Each value uniform in [-epsilon, epsilon]."""
        import torch

        return (torch.rand(like.shape, generator=generator) * 2 - 1).mul(self.epsilon).to(like)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The gradient's sign."""
        return gradient.sign()

    def project(self, perturbation: Tensor) -> Tensor:
        """Clips each value."""
        return perturbation.clamp(-self.epsilon, self.epsilon)


@dataclass(frozen=True)
class L2:
    """The Euclidean length over all values of a sample is at most epsilon."""

    epsilon: float

    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """A uniform direction, and a radius that makes the density uniform."""
        import torch

        direction = self.steepest(torch.randn(like.shape, generator=generator))
        radius = torch.rand(len(like), generator=generator) ** (1 / like[0].numel())
        return (direction * _per_sample(radius, like) * self.epsilon).to(like)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The gradient at length 1."""
        return gradient / _per_sample(gradient.flatten(1).norm(dim=1).clamp_min(1e-12), gradient)

    def project(self, perturbation: Tensor) -> Tensor:
        """Shortens what is longer than epsilon."""
        length = _per_sample(perturbation.flatten(1).norm(dim=1), perturbation)
        return perturbation * (self.epsilon / length.clamp_min(self.epsilon))


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Values (N,) in the shape (N, 1, …) that broadcasts with ``like``."""
    return values.view(-1, *[1] * (like.dim() - 1))
