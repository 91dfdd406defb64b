"""Auto-PGD's steps: Croce and Hein, arXiv:2003.01690, section 3.

Shapes use: N samples, M of them that still stand, and … for whatever a sample's shape is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autoprune.toolkit.balls import Ball
from autoprune_evaluators._attack import Climb, GradientAttack, Region

_MOMENTUM = 0.75
"""Part of the new step; the rest is of the last one."""
_PROGRESS = 0.75
"""Share of steps since the last checkpoint that have to have climbed."""


class AutoProjectedGradient(GradientAttack):
    """Starts with steps of ``step_size``, twice epsilon in the paper, and halves them sample by sample."""

    def _climb(self, region: Region) -> Climb:
        return _Climber(region, self.ball, checkpoints(self.steps), self.step_size)


def checkpoints(steps: int) -> frozenset[int]:
    """After how many steps progress is looked at: after 22 % of all, then after ever shorter periods of 6 % or more."""
    period, shorter, shortest = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    found, at = [], period
    while at < steps:
        found.append(at)
        period = max(period - shorter, shortest)
        at += period
    return frozenset(found)


class _Climber:
    """Of all N samples, by their numbers; what has fallen is not asked of again."""

    def __init__(self, region: Region, ball: Ball, looks: frozenset[int], step_size: float) -> None:
        origin = region.origin
        self._region, self._ball, self._looks = region, ball, looks
        self._size = torch.ones_like(origin[(slice(None), *[slice(1)] * (origin.dim() - 1))]) * region.length(step_size)
        self._before, self._best = origin.clone(), origin.clone()
        self._gradient = torch.zeros_like(origin)
        self._most, self._last, self._looked = (origin.new_full((len(origin),), -torch.inf) for _ in range(3))
        self._climbs = origin.new_zeros(len(origin))
        self._halved = torch.ones(len(origin), dtype=torch.bool, device=origin.device)
        self._step, self._since = 0, 0

    def __call__(self, samples: Tensor, here: Tensor, gradient: Tensor, loss: Tensor) -> Tensor:
        loss = loss.to(self._most)
        if self._step:
            self._climbs[samples] += (loss > self._last[samples]).to(self._climbs)
            self._since += 1
        else:
            self._looked[samples] = loss  # what progress begins from
        self._last[samples] = loss
        better = loss > self._most[samples]
        climbed = samples[better]
        self._most[climbed], self._best[climbed], self._gradient[climbed] = loss[better], here[better], gradient[better]
        momentum = _MOMENTUM if self._step else 1.0
        before = self._before[samples]
        if self._step in self._looks:
            stuck = self._look(samples)
            turned = samples[stuck]
            here, gradient = here.clone(), gradient.clone()
            here[stuck], gradient[stuck] = self._best[turned], self._gradient[turned]
        self._step += 1
        self._before[samples] = here
        ahead = self._region.nearest(here + self._size[samples] * self._ball.steepest(gradient), samples)
        return self._region.nearest(here + momentum * (ahead - here) + (1 - momentum) * (here - before), samples)

    def _look(self, samples: Tensor) -> Tensor:
        """Halve the step of those, (M,), that did not climb often, or not at all at the step that they have."""
        seldom = self._climbs[samples] <= _PROGRESS * self._since
        idle = ~self._halved[samples] & (self._looked[samples] >= self._most[samples])
        stuck = seldom | idle
        self._size[samples[stuck]] /= 2
        self._halved[samples], self._looked[samples] = stuck, self._most[samples]
        self._climbs[samples], self._since = 0.0, 0
        return stuck
