"""95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from autoprune.plugin import Difference, Measured

if TYPE_CHECKING:
    from torch import Tensor

Z = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""
_RESAMPLES = 1000
_FEWEST = 20
"""Samples, for a bootstrap."""
_GROUPS = 256
"""Sums of so many groups of samples are kept, however many samples there are."""


def proportion(successes: int, samples: int) -> Measured:
    """A share of successes with Wilson's score interval.

    Unlike the normal approximation it stays within [0, 1] and has a width at 0 and at 1. Wilson, *Probable inference,
    the law of succession, and statistical inference*, JASA 22 (1927); Brown et al., Statistical Science 16 (2001).
    """
    share, z2 = successes / samples, Z * Z
    scale = 1 + z2 / samples
    middle = (share + z2 / (2 * samples)) / scale
    half = Z / scale * math.sqrt(share * (1 - share) / samples + z2 / (4 * samples * samples))
    # At 0 and at 1 one end is the value itself; rounding must not push it past.
    low, high = max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
    return Measured(value=share, low=low, high=high, samples=samples)


def mean(value: float, *, deviation: float, samples: int) -> Measured:
    """A mean with the normal approximation of its interval.

    Args:
        value: The mean.
        deviation: The samples' standard deviation, with Bessel's correction; unused for one sample.
        samples: Number of samples.
    """
    if samples < 2:
        return Measured(value=value, samples=samples)
    half = Z * deviation / math.sqrt(samples)
    return Measured(value=value, low=value - half, high=value + half, samples=samples)


def mean_of(values: Tensor, weights: Tensor | None = None) -> Measured:
    """The mean of samples, (N,), with the normal approximation of its interval.

    Args:
        values: Of each sample.
        weights: What each counts, (N,), such as its number of tokens; all the same if None. The interval is that of a
            ratio of sums (Cochran, *Sampling Techniques*, 1977, section 2.11): samples are drawn, not their elements.

    Returns:
        NaN without an interval where nothing counts.
    """
    values = values.double()
    if weights is not None and not bool(weights.any()):
        return Measured(value=math.nan, samples=len(values))
    if weights is None or bool((weights == weights[0]).all()):
        deviation = float(values.std()) if len(values) > 1 else 0.0
        return mean(float(values.mean()), deviation=deviation, samples=len(values))
    weights = weights.double()
    share = weights / weights.mean()
    middle = (weights * values).sum() / weights.sum()  # so that the mean of ones is 1, not a rounding more
    deviation = float((share * (values - middle)).std()) if len(values) > 1 else 0.0
    return mean(float(middle), deviation=deviation, samples=len(values))


def share_of(shares: Tensor, weights: Tensor | None = None) -> Measured:
    """The mean of shares, (N,), each in [0, 1]: of right samples, or of what is right in each sample.

    With Wilson's interval where every sample is right or wrong as a whole and counts the same, and where all that count
    are wrong, or all right; else with the normal approximation within [0, 1], which would have no width there.

    Args:
        shares: Of each sample.
        weights: What each counts, (N,); all the same if None.
    """
    counting = shares if weights is None else shares[weights > 0]
    alike = weights is None or bool((weights == weights[0]).all()) or bool((counting == counting[:1]).all())
    if len(counting) and alike and bool(((counting == 0) | (counting == 1)).all()):
        return proportion(int(counting.sum()), len(counting)).model_copy(update={"samples": len(shares)})
    found = mean_of(shares, weights)
    if found.low is None or found.high is None:
        return found
    return found.model_copy(update={"low": max(0.0, found.low), "high": min(1.0, found.high)})


def half_of_two(one: Tensor, other: Tensor) -> float:
    """Half of the interval of a sum, or difference, of two means over other samples each.

    Args:
        one: Of each sample, (N,).
        other: Of each of the others, (M,).
    """
    parts = (float(each.double().var()) / len(each) if len(each) > 1 else 0.0 for each in (one, other))
    return Z * math.sqrt(sum(parts))


class Totals:
    """Sums of statistics over samples, for what is computed of sums alone: an F1, an R², an intersection over union.

    The interval is a percentile bootstrap over samples (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993,
    chapter 13). It takes milliseconds, however many samples there are: above 256, groups of them are drawn. They have
    to come in random order.

    Example:
        >>> totals = Totals()
        >>> for inputs, targets in batches:
        ...     totals.add(torch.stack([hits, found, wanted], dim=1))  # of each sample, (N, 3)
        >>> totals.measured(lambda sums: 2 * sums[..., 0] / (sums[..., 1] + sums[..., 2]))
    """

    def __init__(self) -> None:
        self._sums: Tensor | None = None
        self.samples = 0
        """Taken in by now."""

    def add(self, statistics: Tensor) -> None:
        """Take in a batch: (N, K) statistics of its samples, always the same K."""
        import torch

        statistics = statistics.detach().cpu().double()  # a GPU would add them up in any order
        if self._sums is None:
            self._sums = statistics.new_zeros(_GROUPS, statistics.shape[1])
        place = torch.arange(self.samples, self.samples + len(statistics)) % _GROUPS
        self._sums.index_add_(0, place, statistics)
        self.samples += len(statistics)

    def measured(self, value: Callable[[Tensor], Tensor]) -> Measured:
        """What a function makes of the sums, with its interval.

        Args:
            value: Sums, (…, K) float64, to one value each, (…,), NaN where it is not defined.
        """
        if self._sums is None:
            return Measured(value=math.nan, samples=0)
        sums = self._sums[: self.samples]
        drawn = _counts(len(sums)) @ sums
        return percentiles(float(value(sums.sum(0))), value(drawn).tolist(), samples=self.samples)

    def difference(self, other: Totals, value: Callable[[Tensor], Tensor]) -> Difference | None:
        """How much more a function makes of these sums than of another model's, on the same samples.

        Args:
            other: Of the same samples in the same order.
            value: As of `measured`.

        Returns:
            None where one of them does not define it.
        """
        if self._sums is None or other._sums is None or self.samples != other.samples:
            return None
        both = [each[: self.samples] for each in (self._sums, other._sums)]
        mine, theirs = (float(value(sums.sum(0))) for sums in both)
        counts = _counts(len(both[0]))
        drawn = value(counts @ both[0]) - value(counts @ both[1])
        if not math.isfinite(mine - theirs):
            return None
        found = percentiles(mine - theirs, drawn.tolist(), samples=self.samples)
        return Difference(value=found.value, low=found.low, high=found.high)


def percentiles(value: float, resampled: Sequence[float], *, samples: int) -> Measured:
    """A value with the percentile bootstrap's interval, which is made to hold the value.

    There is no interval of fewer than 20 samples, nor where all that was drawn gave the same (nothing was found yet):
    either would be taken for certainty.

    Args:
        value: Of all samples.
        resampled: Of samples drawn from them with replacement, see `draws`. What is not finite, because a few samples
            do not define it, is left out; where most are, there is no interval.
        samples: Number of samples.
    """
    import numpy as np

    finite = [each for each in resampled if math.isfinite(each)]
    known = math.isfinite(value) and samples >= _FEWEST and 2 * len(finite) > len(resampled)
    if not known or min(finite) == max(finite):
        return Measured(value=value, samples=samples)
    low, high = np.quantile(finite, (0.025, 0.975))
    return Measured(value=value, low=min(value, float(low)), high=max(value, float(high)), samples=samples)


def draws(samples: int, resamples: int) -> Iterator[Tensor]:
    """Numbers of samples drawn with replacement, int64 of shape (samples,) each time; always the same ones."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for _ in range(resamples):
        yield torch.randint(samples, (samples,), generator=generator)


@lru_cache(maxsize=16)
def _counts(samples: int) -> Tensor:
    """How often each sample is in each draw, float64 of shape (resamples, samples)."""
    import torch

    drawn = torch.randint(samples, (_RESAMPLES, samples), generator=torch.Generator().manual_seed(0))
    counts = torch.zeros(drawn.shape, dtype=torch.float64)
    return counts.scatter_add_(1, drawn, torch.ones_like(counts))
