"""A line and a Gaussian process: what a value follows, and what trials show beyond it.

Shapes use: N candidates (or trials), G groups, E columns that tell knobs apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST_FITTED = 200
"""Trials that a Gaussian process is fitted to: the latest. Its time grows with their cube."""
_TELLING = 60
"""Of those, the latest from which its kernel is chosen."""
_PRIOR_TRIALS = 3
"""How many trials the expected spread counts for."""
_LENGTHS, _NOISES = (0.25, 0.5, 1.0, 2.0, 4.0), (0.01, 0.03, 0.1, 0.3, 1.0)
_WEIGHTS, _REACHES = (1.0, 0.3, 4.0, 16.0), (0.15, 0.3, 0.6)
"""What kernels are chosen from. The first weight stands until length and noise are chosen."""
_ALIKE = 1.0
"""How near predictions are that are alike, in expected spreads."""


@dataclass(frozen=True)
class Traits:
    """What tells candidates apart."""

    shares: Floats
    """That go of each group, scaled so that all groups together make the distance (N, G)."""
    knobs: Floats
    """Places of ranges, and a column per option of a choice (N, E)."""

    def __getitem__(self, rows: Sequence[int] | slice) -> Self:
        return type(self)(self.shares[rows], self.knobs[rows])


class _Distances:
    """Squared, between candidates and others, (N, N')."""

    def __init__(self, one: Traits, other: Traits) -> None:
        shares = _squared(one.shares, other.shares)
        some = one.knobs.shape[1] > 0
        self.knobs = _squared(one.knobs, other.knobs) if some else np.zeros_like(shares)
        self.traits = shares + self.knobs if some else shares


@dataclass(frozen=True)
class _Kernel:
    """How alike two candidates are: in everything, and in their knobs alone, which do much the same to any cuts.

    Duvenaud et al., *Additive Gaussian processes*, arXiv:1112.4394.
    """

    length: float
    """Of all traits together."""
    noise: float
    weight: float = 0.0
    """Of the knobs alone, where that of everything is 1; 0 where there are none."""
    reach: float = 0.6
    """Length of the knobs alone."""

    def near(self, apart: _Distances) -> Floats:
        """In everything, (N, N')."""
        near: Floats = np.exp(-0.5 * apart.traits / self.length**2)
        return near

    def alike(self, apart: _Distances) -> Floats:
        """In everything, and in their knobs alone, (N, N')."""
        near = self.near(apart)
        if self.weight:
            near += self.weight * np.exp(-0.5 * apart.knobs / self.reach**2)
        return near


class Process:
    """A line in a few known quantities, and a Gaussian process for what it leaves.

    Rasmussen and Williams, *Gaussian Processes for Machine Learning* (2006), chapter 2. The kernel is that of
    a few that makes the trials likeliest.
    """

    def __init__(
        self, *, traits: Traits, design: Floats, target: Floats, prior: Floats, precision: Floats, spread: float
    ) -> None:
        """Fit it.

        Args:
            traits: Of each trial: alike where trials are.
            design: What the line is in (N, P).
            target: What is modelled (N,).
            prior: The line's coefficients before any trial (P,).
            precision: How much each of them is believed in, in trials (P,).
            spread: What is expected before any trial of the deviations from the line.
        """
        traits, design, target = traits[-MOST_FITTED:], design[-MOST_FITTED:], target[-MOST_FITTED:]
        self._traits, self._scale, count = traits, spread, len(target)
        gram = design.T @ design + np.diag(precision)
        self._line = prior + np.linalg.solve(gram, design.T @ (target - design @ prior))
        rest = target - design @ self._line
        self._kernel = _likeliest(traits[-_TELLING:], rest[-_TELLING:], spread)
        alike = self._kernel.alike(_Distances(traits, traits))
        self._whitening = np.linalg.inv(np.linalg.cholesky(alike + self._kernel.noise * np.eye(count)))
        self._half = self._whitening @ rest
        self._variance = (float(self._half @ self._half) + _PRIOR_TRIALS * spread**2) / (count + _PRIOR_TRIALS)
        # What each trial would have been predicted by all others (same book, 5.12), and how far off that is.
        inverse = self._whitening.T @ self._whitening
        own = np.diag(inverse)
        missed = (inverse @ rest) / own
        self._foreseen = target - missed
        self._surprise = missed**2 * own / self._variance
        """Squares, 1 where the deviation is as large as expected."""

    def __call__(self, traits: Traits, design: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of candidates, (N,) each.

        A deviation is larger or smaller by how far off the predictions of like trials were: some values hang on luck
        (those near the dense model's), others on nothing (guessing), and to try those again and again is no use.
        """
        apart = _Distances(traits, self._traits)
        near = self._kernel.near(apart)
        mixed = self._whitening @ self._kernel.alike(apart).T
        mean = design @ self._line + mixed.T @ self._half
        left = np.maximum(1.0 + self._kernel.weight - (mixed**2).sum(axis=0), 0.0) + self._kernel.noise
        like = near * np.exp(-0.5 * ((mean[:, None] - self._foreseen) / (_ALIKE * self._scale)) ** 2)
        surprise = (1.0 + like @ self._surprise) / (1.0 + like.sum(axis=1))
        return mean, np.sqrt(self._variance * left * surprise)


def _likeliest(traits: Traits, rest: Floats, spread: float) -> _Kernel:
    """The kernel that makes the trials likeliest, of a few: length and noise, then what the knobs do alone."""
    apart, weights = _Distances(traits, traits), _WEIGHTS if traits.knobs.shape[1] else (0.0,)
    best = partial(_best, apart=apart, rest=rest, spread=spread)
    kernel = best([_Kernel(length, noise, weights[0]) for length in _LENGTHS for noise in _NOISES])
    if len(weights) > 1:
        kernel = best([replace(kernel, weight=weight, reach=reach) for weight in weights for reach in _REACHES])
    return kernel


def _best(kernels: Sequence[_Kernel], *, apart: _Distances, rest: Floats, spread: float) -> _Kernel:
    count, best, chosen = len(rest), -np.inf, kernels[0]
    for kernel in kernels:
        factor = np.linalg.cholesky(kernel.alike(apart) + kernel.noise * np.eye(count))
        half = np.linalg.solve(factor, rest)
        variance = (float(half @ half) + _PRIOR_TRIALS * spread**2) / (count + _PRIOR_TRIALS)
        likelihood = -(count + _PRIOR_TRIALS) * np.log(variance) / 2 - np.log(np.diag(factor)).sum()
        if likelihood > best:
            best, chosen = likelihood, kernel
    return chosen


def _squared(one: Floats, other: Floats) -> Floats:
    squared: Floats = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
    return np.maximum(squared, 0.0)
