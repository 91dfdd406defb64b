"""The Square attack: Andriushchenko et al., arXiv:1912.00049, algorithms 1 to 3.

Shapes use: N images, (N, C, H, W).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin import Inputs, Task
from autoprune.plugin.task import shapes
from autoprune.toolkit.samples import losses, right_shares
from autoprune_evaluators._attack import picked

_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""After which shares of the queries squares get half as large."""
_TILES = 5
"""Along each side of an image, in the first proposal of the L2 attack."""


@dataclass(frozen=True, kw_only=True)
class SquareAttack(ABC):
    """Random search over perturbations that are constant, or a bump, on squares; asks for outputs alone.

    Where squares lie and which way they go is the same for every sample and every model.
    """

    epsilon: float
    queries: int
    """Forward passes of each sample."""
    p_init: float
    """Share of the image in the first squares."""
    bounds: tuple[float, float]
    seed: int

    def start(self, origin: Tensor, generator: torch.Generator) -> Tensor:
        """The first proposal.

        Raises:
            TrialError: Inputs are no images.
        """
        if origin.dim() != 4:
            raise TrialError(f"square changes squares of images, (N, C, H, W); inputs are {shapes(origin)}")
        return self._first(origin, generator)

    def perturb(
        self, model: nn.Module, inputs: Inputs, targets: Any, start: Tensor, *, task: Task
    ) -> tuple[Tensor, Tensor]:
        """As of `autoprune_evaluators._attack.Attack`."""
        origin, generator = inputs.first, torch.Generator().manual_seed(self.seed)
        best = (origin + start).clamp(*self.bounds)
        standing = torch.arange(len(origin), device=origin.device)
        worst = torch.ones(len(origin), device=origin.device)
        highest = torch.full_like(worst, -torch.inf)
        # Not without gradients, in which a study may predict in low precision: as precisely as other attacks.
        for query in range(self.queries):
            proposed = best[standing]
            if query:
                moved = self._moved(proposed - origin[standing], self._share(query), generator)
                proposed = (origin[standing] + moved).clamp(*self.bounds)
            outputs, wanted = inputs[standing].with_first(proposed).feed(model), picked(targets, standing)
            right = right_shares(task, outputs, wanted).detach().to(worst)
            rise = margins(task, outputs, wanted).detach().to(worst)
            better = (rise > highest[standing]) | (right < worst[standing])
            taken = standing[better]
            best[taken], highest[taken] = proposed[better], rise[better]
            worst[standing] = worst[standing].minimum(right)
            standing = standing[right > 0]
            if not len(standing):
                break
        return best, worst

    def _share(self, query: int) -> float:
        """Of the image in a square, at a query: the paper's schedule, for as many queries as there are."""
        return self.p_init * 0.5 ** sum(query > share * self.queries for share in _HALVINGS)

    @abstractmethod
    def _first(self, origin: Tensor, generator: torch.Generator) -> Tensor:
        """The first perturbation, (N, C, H, W)."""

    @abstractmethod
    def _moved(self, perturbation: Tensor, share: float, generator: torch.Generator) -> Tensor:
        """The next one to try, (N, C, H, W)."""


class SquareLinf(SquareAttack):
    """Squares at the edge of the ball, after vertical stripes."""

    def _first(self, origin: Tensor, generator: torch.Generator) -> Tensor:
        count, channels, _, width = origin.shape
        return (self.epsilon * _signs((count, channels, 1, width), generator)).to(origin).expand_as(origin)

    def _moved(self, perturbation: Tensor, share: float, generator: torch.Generator) -> Tensor:
        _, channels, height, width = perturbation.shape
        side = min(max(round(math.sqrt(share * height * width)), 1), height, width)
        rows, columns = _window(height, width, side, generator)
        moved = perturbation.clone()
        moved[:, :, rows, columns] = (self.epsilon * _signs((channels, 1, 1), generator)).to(moved)
        return moved


class SquareL2(SquareAttack):
    """Bumps, whose budget comes from another square."""

    def _first(self, origin: Tensor, generator: torch.Generator) -> Tensor:
        count, channels, height, width = origin.shape
        side = max(min(height, width) // _TILES, 1)
        first = torch.zeros(origin.shape)
        for top in range(height % side // 2, height - side + 1, side):
            for left in range(width % side // 2, width - side + 1, side):
                signs = _signs((count, channels, 1, 1), generator)
                first[:, :, top : top + side, left : left + side] = signs * _bump(side, generator)
        return self._full(first.to(origin))

    def _moved(self, perturbation: Tensor, share: float, generator: torch.Generator) -> Tensor:
        _, channels, height, width = perturbation.shape
        side = max(round(math.sqrt(share * height * width)), 3)
        side = min(side + 1 - side % 2, height - 1 + height % 2, width - 1 + width % 2)  # odd, and within the image
        grown, drained = (_window(height, width, side, generator) for _ in range(2))
        inside = torch.zeros(height, width, dtype=torch.bool, device=perturbation.device)
        inside[grown], inside[drained] = True, True
        both = (perturbation * inside).square().sum((2, 3), keepdim=True)
        unused = (self.epsilon**2 - perturbation.square().sum((1, 2, 3), keepdim=True)).clamp_min(0)
        old = perturbation[:, :, *grown]
        bump = (_signs((channels, 1, 1), generator) * _bump(side, generator)).to(old)
        new = bump + old / _lengths(old, (2, 3))
        moved = perturbation.clone()
        moved[:, :, *drained] = 0
        moved[:, :, *grown] = new / _lengths(new, (2, 3)) * (unused / channels + both).sqrt()
        return self._full(moved)

    def _full(self, perturbation: Tensor) -> Tensor:
        """At the edge of the ball."""
        return self.epsilon * perturbation / _lengths(perturbation, (1, 2, 3))


def margins(task: Task, outputs: Any, targets: Any) -> Tensor:
    """How far another class is above the true one, (N,); of what are no classes, (N, C), the task's loss."""
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or targets.dim() != 1 or outputs.shape[1] < 2:
        return losses(task, outputs, targets)
    true = outputs.gather(1, targets[:, None])
    return (outputs.scatter(1, targets[:, None], -torch.inf).amax(1, keepdim=True) - true).squeeze(1)


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(2, shape, generator=generator) * 2.0 - 1


def _window(height: int, width: int, side: int, generator: torch.Generator) -> tuple[slice, slice]:
    """Rows and columns of a square anywhere in an image."""
    top, left = (int(torch.randint(length - side + 1, (), generator=generator)) for length in (height, width))
    return slice(top, top + side), slice(left, left + side)


def _bump(side: int, generator: torch.Generator) -> Tensor:
    """Two pyramids of opposite sign, side by side or one above the other, of length 1, (S, S)."""
    bump = torch.zeros(side, side)
    bump[: side // 2] = _pyramid(side // 2, side)
    bump[side // 2 :] = -_pyramid(side - side // 2, side)
    bump /= _lengths(bump, (0, 1))
    return bump.T if torch.rand((), generator=generator) > 0.5 else bump


def _pyramid(height: int, width: int) -> Tensor:
    """Rectangles around the middle, each 1 / k² higher than the one around it, (H, W)."""
    pyramid = torch.zeros(height, width)
    top, left = height // 2, width // 2
    for ring in range(max(height // 2 + 1, width // 2 + 1)):
        bottom, right = top + ring + 1, left + ring + 1
        pyramid[max(top - ring, 0) : bottom, max(left - ring, 0) : right] += 1 / (ring + 1) ** 2
    return pyramid / _lengths(pyramid, (0, 1))


def _lengths(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    return values.square().sum(dims, keepdim=True).sqrt().clamp_min(1e-12)
