"""What a candidate's metrics will be: an additive model of damage, corrected by what was measured.

Shapes use: N candidates (or trials), D draws, P columns of arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoprune_samplers._process import Process, Traits

Floats = NDArray[np.float64]
_BEYOND = 1.02
"""How far beyond the best value so far the next one may lie."""
_SPREAD = 0.3
"""What is expected, before any trial, of how far measured damage lies from predicted damage, in log."""


@dataclass(frozen=True)
class Link:
    """The share of the dense model's value that survives some damage: ``1 / (1 + (damage / scale) ** power)``."""

    scale: float
    power: float

    def share(self, log_damage: Floats) -> Floats:
        """Of any shape."""
        share: Floats = 1.0 / (1.0 + np.exp(self.power * (log_damage - np.log(self.scale))))
        return share

    def log_damage(self, share: Floats) -> Floats:
        """The damage that leaves such a share; shares that tell none (near 0 and 1) are moved inwards."""
        odds = 1.0 / np.clip(share, 0.03, 0.99) - 1.0
        log: Floats = np.log(self.scale) + np.log(odds) / self.power
        return log


_USUAL = Link(scale=1.6, power=1.2)


def fit_link(damage: Floats, agreement: Floats) -> Link:
    """The likeliest link for probes: damage (N,), and the share of predictions that agreed with the dense model's (N,).

    A probe counts for few samples, so that what links mostly are, by other networks, counts for something, too.
    """
    logs = np.log(np.maximum(damage, 1e-6))
    best, chosen = -np.inf, _USUAL
    for scale in _USUAL.scale * np.geomspace(0.25, 4.0, 17):
        for power in np.linspace(0.5, 2.0, 16):
            link = Link(scale=float(scale), power=float(power))
            share = np.clip(link.share(logs), 1e-3, 1 - 1e-3)
            likelihood = 16 * float((agreement * np.log(share) + (1 - agreement) * np.log(1 - share)).sum())
            likelihood -= (np.log(scale / _USUAL.scale) / 0.5) ** 2 / 2 + ((power - _USUAL.power) / 0.3) ** 2 / 2
            if likelihood > best:
                best, chosen = likelihood, link
    return chosen


class Quality:
    """A metric that falls (or, as a loss does, grows) with damage: modelled as the damage that would leave it."""

    def __init__(self, link: Link, *, traits: Traits, log_damage: Floats, values: Floats, dense: float) -> None:
        """Fit it.

        Args:
            link: Damage to the share that survives.
            traits: Of each trial.
            log_damage: Predicted (N,).
            values: The metric (N,).
            dense: The dense model's, positive.
        """
        values = np.maximum(values, 1e-6 * dense)
        self._link = link
        self._grows = float(np.median(values)) > dense
        # A recovered network may be better than the dense one, and the next one a little better than any before.
        found = min(dense, float(values.min())) if self._grows else max(dense, float(values.max()))
        self._best = found / _BEYOND if self._grows else found * _BEYOND
        self._process = Process(
            traits=traits,
            design=_line(log_damage),
            target=link.log_damage(self._best / values if self._grows else values / self._best),
            prior=np.array([0.0, 1.0]),
            precision=np.array([0.1, 3.0]),
            spread=_SPREAD,
        )

    def draws(self, traits: Traits, log_damage: Floats, quantiles: Floats) -> Floats:
        """Values of candidates (D, N), at these quantiles (D,) of the standard normal distribution."""
        mean, deviation = self._process(traits, _line(log_damage))
        share = self._link.share(mean - quantiles[:, None] * deviation)
        return self._best / np.maximum(share, 1e-3) if self._grows else self._best * share


class Plain:
    """A metric that follows the candidate's arithmetic, such as a latency, or nothing that is known."""

    def __init__(self, *, traits: Traits, arithmetic: Floats, values: Floats, dense: float) -> None:
        """Fit it.

        Args:
            traits: Of each trial.
            arithmetic: Costs left (N, P), of the dense model's.
            values: The metric (N,).
            dense: The dense model's.
        """
        self._scale = abs(dense) or 1.0
        count = arithmetic.shape[1]
        self._process = Process(
            traits=traits,
            design=_line(arithmetic),
            target=values / self._scale,
            prior=np.array([dense / self._scale - 0.7, *[0.7 / count] * count]),
            precision=np.array([0.1, *[0.3] * count]),
            spread=0.1,
        )

    def draws(self, traits: Traits, arithmetic: Floats, quantiles: Floats) -> Floats:
        """Values of candidates (D, N), at these quantiles (D,) of the standard normal distribution."""
        mean, deviation = self._process(traits, _line(arithmetic))
        drawn: Floats = (mean + quantiles[:, None] * deviation) * self._scale
        return drawn


def _line(values: Floats) -> Floats:
    """A constant and these values (N,) or (N, P)."""
    return np.concatenate([np.ones((len(values), 1)), values.reshape(len(values), -1)], axis=1)
