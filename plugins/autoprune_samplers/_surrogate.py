"""What a candidate's metrics will be: an additive model of damage, corrected by what was measured.

Shapes use: N candidates (or trials), F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST_FITTED = 200
"""Trials that a Gaussian process is fitted to: the latest. Its time grows with their cube."""
_TELLING = 60
"""Of those, the latest from which its length and noise are chosen."""
_BEYOND = 1.02
"""How far beyond the best value so far the next one may lie."""
_PRIOR_TRIALS = 3
"""How many trials the expected spread counts for."""
_ALIKE = 1.0
"""How near predictions are that are alike, in expected spreads."""
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


class Process:
    """A line in a few known quantities, and a Gaussian process for what it leaves.

    Rasmussen and Williams, *Gaussian Processes for Machine Learning* (2006), chapter 2. Length and noise are those of a
    few that make the trials likeliest.
    """

    def __init__(
        self, *, features: Floats, design: Floats, target: Floats, prior: Floats, precision: Floats, spread: float
    ) -> None:
        """Fit it.

        Args:
            features: Of each trial (N, F): alike where trials are.
            design: What the line is in (N, P).
            target: What is modelled (N,).
            prior: The line's coefficients before any trial (P,).
            precision: How much each of them is believed in, in trials (P,).
            spread: What is expected before any trial of the deviations from the line.
        """
        features, design, target = features[-MOST_FITTED:], design[-MOST_FITTED:], target[-MOST_FITTED:]
        self._features, self._scale, count = features, spread, len(target)
        gram = design.T @ design + np.diag(precision)
        self._line = prior + np.linalg.solve(gram, design.T @ (target - design @ prior))
        rest = target - design @ self._line
        self._length, self._noise = _likeliest(features[-_TELLING:], rest[-_TELLING:], spread)
        near = np.exp(-0.5 * _distances(features, features) / self._length**2)
        self._whitening = np.linalg.inv(np.linalg.cholesky(near + self._noise * np.eye(count)))
        self._half = self._whitening @ rest
        self._variance = (float(self._half @ self._half) + _PRIOR_TRIALS * spread**2) / (count + _PRIOR_TRIALS)
        # What each trial would have been predicted by all others (same book, 5.12), and how far off that is.
        inverse = self._whitening.T @ self._whitening
        own = np.diag(inverse)
        missed = (inverse @ rest) / own
        self._foreseen = target - missed
        self._surprise = missed**2 * own / self._variance
        """Squares, 1 where the deviation is as large as expected."""

    def __call__(self, features: Floats, design: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of candidates, (N,) each.

        A deviation is larger or smaller by how far off the predictions of like trials were: some values hang on luck
        (those near the dense model's), others on nothing (guessing), and to try those again and again is no use.
        """
        near = np.exp(-0.5 * _distances(features, self._features) / self._length**2)
        mixed = self._whitening @ near.T
        mean = design @ self._line + mixed.T @ self._half
        left = np.maximum(1.0 - (mixed**2).sum(axis=0), 0.0) + self._noise
        like = near * np.exp(-0.5 * ((mean[:, None] - self._foreseen) / (_ALIKE * self._scale)) ** 2)
        surprise = (1.0 + like @ self._surprise) / (1.0 + like.sum(axis=1))
        return mean, np.sqrt(self._variance * left * surprise)


class Quality:
    """A metric that falls (or, as a loss does, grows) with damage: modelled as the damage that would leave it."""

    def __init__(self, link: Link, *, features: Floats, log_damage: Floats, values: Floats, dense: float) -> None:
        """Fit it.

        Args:
            link: Damage to the share that survives.
            features: Of each trial (N, F).
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
            features=features,
            design=_line(log_damage),
            target=link.log_damage(self._best / values if self._grows else values / self._best),
            prior=np.array([0.0, 1.0]),
            precision=np.array([0.1, 3.0]),
            spread=_SPREAD,
        )

    def draws(self, features: Floats, log_damage: Floats, quantiles: Floats) -> Floats:
        """Values of candidates (D, N), at these quantiles (D,) of the standard normal distribution."""
        mean, deviation = self._process(features, _line(log_damage))
        share = self._link.share(mean - quantiles[:, None] * deviation)
        return self._best / np.maximum(share, 1e-3) if self._grows else self._best * share


class Plain:
    """A metric that follows the candidate's arithmetic, such as a latency, or nothing that is known."""

    def __init__(self, *, features: Floats, arithmetic: Floats, values: Floats, dense: float) -> None:
        """Fit it.

        Args:
            features: Of each trial (N, F).
            arithmetic: Costs left (N, P), of the dense model's.
            values: The metric (N,).
            dense: The dense model's.
        """
        self._scale = abs(dense) or 1.0
        count = arithmetic.shape[1]
        self._process = Process(
            features=features,
            design=_line(arithmetic),
            target=values / self._scale,
            prior=np.array([dense / self._scale - 0.7, *[0.7 / count] * count]),
            precision=np.array([0.1, *[0.3] * count]),
            spread=0.1,
        )

    def draws(self, features: Floats, arithmetic: Floats, quantiles: Floats) -> Floats:
        """Values of candidates (D, N), at these quantiles (D,) of the standard normal distribution."""
        mean, deviation = self._process(features, _line(arithmetic))
        drawn: Floats = (mean + quantiles[:, None] * deviation) * self._scale
        return drawn


def _likeliest(features: Floats, rest: Floats, spread: float) -> tuple[float, float]:
    """Length and noise that make the trials likeliest, of a few."""
    distances, count = _distances(features, features), len(rest)
    best, chosen = -np.inf, (1.0, 0.1)
    for length in (0.25, 0.5, 1.0, 2.0, 4.0):
        near = np.exp(-0.5 * distances / length**2)
        for noise in (0.01, 0.03, 0.1, 0.3, 1.0):
            factor = np.linalg.cholesky(near + noise * np.eye(count))
            half = np.linalg.solve(factor, rest)
            variance = (float(half @ half) + _PRIOR_TRIALS * spread**2) / (count + _PRIOR_TRIALS)
            likelihood = -(count + _PRIOR_TRIALS) * np.log(variance) / 2 - np.log(np.diag(factor)).sum()
            if likelihood > best:
                best, chosen = likelihood, (length, noise)
    return chosen


def _line(values: Floats) -> Floats:
    """A constant and these values (N,) or (N, P)."""
    return np.concatenate([np.ones((len(values), 1)), values.reshape(len(values), -1)], axis=1)


def _distances(one: Floats, other: Floats) -> Floats:
    squared: Floats = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
    return np.maximum(squared, 0.0)
