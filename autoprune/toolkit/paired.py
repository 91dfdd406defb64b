"""Differences between two models on the same samples, with 95 % intervals: they are smaller than both models' own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from autoprune.plugin import Difference
from autoprune.toolkit.intervals import Z

if TYPE_CHECKING:
    from torch import Tensor

_HALVINGS = 60


def of_counts(gained: int, lost: int, samples: int) -> Difference:
    """Of two shares of right samples: how much more of them are right.

    The interval holds the differences that a score test does not reject; it is without 0 just where McNemar's test
    (1947) tells the two apart. Tango, *Equivalence test and confidence interval for the difference in proportions for
    the paired-sample design*, Statistics in Medicine 17 (1998).

    Args:
        gained: Samples that the model has right and the other one wrong.
        lost: The other way round.
        samples: All of them.
    """

    def statistic(difference: float) -> float:
        a, b = 2 * samples, -gained - lost + (2 * samples - gained + lost) * difference
        c = -lost * difference * (1 - difference)
        wrong = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)  # the likeliest share of those that are lost
        variance = samples * (2 * wrong + difference * (1 - difference))
        off = gained - lost - samples * difference
        return off / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, off) if off else 0.0

    def end(inside: float, outside: float) -> float:
        if abs(statistic(outside)) <= Z:
            return outside
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if abs(statistic(middle)) <= Z else (inside, middle)
        return inside

    value = (gained - lost) / samples
    return Difference(value=value, low=end(value, -1.0), high=end(value, 1.0))


def of_means(values: Tensor, dense: Tensor, counted: Tensor, slopes: tuple[float, float] = (1.0, 1.0)) -> Difference:
    """Of two means, or of functions of them, with the normal approximation.

    Args:
        values: Of each sample, (N,).
        dense: The other model's, (N,).
        counted: What each counts, (N,).
        slopes: Of the function, at both means; the value is then to be replaced by the functions' difference.
    """
    share = counted.double() / counted.double().mean()
    means = [float((share * each.double()).mean()) for each in (values, dense)]
    mine, theirs = (
        slope * share * (each.double() - mean) for slope, each, mean in zip(slopes, (values, dense), means, strict=True)
    )
    value = means[0] - means[1]
    if len(values) < 2:
        return Difference(value=value)
    half = Z * float((mine - theirs).std()) / math.sqrt(len(values))
    return Difference(value=value, low=value - half, high=value + half)


def of_shares(shares: Tensor, dense: Tensor, counted: Tensor) -> Difference:
    """Of two mean shares: by `of_counts` where every sample is right or wrong as a whole, else by `of_means`.

    Args:
        shares: Of each sample, (N,), in [0, 1].
        dense: The other model's, (N,).
        counted: What each counts, (N,).
    """
    shares, dense = shares.double(), dense.double()
    whole = bool(((shares == 0) | (shares == 1)).all()) and bool(((dense == 0) | (dense == 1)).all())
    if not whole or not bool((counted == counted[:1]).all()):
        return of_means(shares, dense, counted)
    return of_counts(int((shares > dense).sum()), int((shares < dense).sum()), len(shares))
