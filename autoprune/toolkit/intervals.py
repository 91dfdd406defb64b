"""95 % intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from autoprune.plugin import Measured

if TYPE_CHECKING:
    from torch import Tensor

_Z = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""


def proportion(successes: int, samples: int) -> Measured:
    """A share of successes with Wilson's score interval.

    Unlike the normal approximation it stays within [0, 1] and has a width at 0 and at 1. Wilson, *Probable inference,
    the law of succession, and statistical inference*, JASA 22 (1927); Brown et al., Statistical Science 16 (2001).
    """
    share, z2 = successes / samples, _Z * _Z
    scale = 1 + z2 / samples
    middle = (share + z2 / (2 * samples)) / scale
    half = _Z / scale * math.sqrt(share * (1 - share) / samples + z2 / (4 * samples * samples))
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
    half = _Z * deviation / math.sqrt(samples)
    return Measured(value=value, low=value - half, high=value + half, samples=samples)


def mean_of(values: Tensor, weights: Tensor | None = None) -> Measured:
    """The mean of samples, (N,), with the normal approximation of its interval.

    Args:
        values: Of each sample.
        weights: What each counts, (N,), such as its number of tokens; all the same if None. The interval is that of a
            ratio of sums (Cochran, *Sampling Techniques*, 1977, section 2.11): samples are drawn, not their elements.
    """
    values = values.double()
    if weights is None or bool((weights == weights[0]).all()):
        deviation = float(values.std()) if len(values) > 1 else 0.0
        return mean(float(values.mean()), deviation=deviation, samples=len(values))
    share = weights.double() / weights.double().mean()
    middle = (share * values).mean()
    deviation = float((share * (values - middle)).std()) if len(values) > 1 else 0.0
    return mean(float(middle), deviation=deviation, samples=len(values))


def share_of(shares: Tensor, weights: Tensor | None = None) -> Measured:
    """The mean of shares, (N,), each in [0, 1]: of right samples, or of what is right in each sample.

    With Wilson's interval where every sample is right or wrong as a whole and counts the same, else with the normal
    approximation within [0, 1].

    Args:
        shares: Of each sample.
        weights: What each counts, (N,); all the same if None.
    """
    alike = weights is None or bool((weights == weights[0]).all())
    if alike and bool(((shares == 0) | (shares == 1)).all()):
        return proportion(int(shares.sum()), len(shares))
    found = mean_of(shares, weights)
    if found.low is None or found.high is None:
        return found
    return found.model_copy(update={"low": max(0.0, found.low), "high": min(1.0, found.high)})
