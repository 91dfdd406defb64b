"""The epsilon at which an attack tells models apart."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from autoprune import TrialError

log = logging.getLogger("autoprune")

_LOW, _AIM, _HIGH = 0.4, 0.6, 0.8
"""Robust accuracies of the dense model: within the outer two, attacks rank pruned models as a strong attack does."""
_NEAR = 0.03
"""Nearer need not be aimed."""
_SMALLEST = 2.0**-14
"""Of the largest epsilon: as good as no attack."""
_LOOKS = 12


def calibrated(robust: Callable[[float], float], largest: float, *, name: str) -> float:
    """An epsilon at which the dense model keeps 40 to 80 % robust accuracy, 60 % if it can; three digits of it.

    Args:
        robust: Robust accuracy of the dense model at an epsilon.
        largest: The inputs' whole range.
        name: Of the attack.

    Raises:
        TrialError: There is none.
    """

    def told(share: float, epsilon: float, advice: str) -> TrialError:
        return TrialError(
            f"{name}: epsilon: auto wants one that leaves the dense model {_LOW:.0%} to {_HIGH:.0%} robust accuracy,"
            f" but at {epsilon:.3g} it has {share:.0%}; {advice}"
        )

    low, high = _SMALLEST * largest, largest
    clean = robust(low)
    if clean < _LOW:
        raise told(clean, low, "take a better model, or write an epsilon")
    if (share := robust(high)) > _HIGH:
        raise told(share, high, "gradients may be masked: see loss: dlr, or square")
    # A model that is hardly above 40 % as it is would be measured without an attack.
    aim, best = min(_AIM, (_LOW + clean) / 2), (share, high)
    for _ in range(_LOOKS):
        epsilon = float(f"{math.sqrt(low * high):.3g}")
        share = robust(epsilon)
        best = min(best, (share, epsilon), key=lambda each: abs(each[0] - aim))
        if abs(share - aim) <= _NEAR:
            break
        low, high = (epsilon, high) if share > aim else (low, epsilon)
    share, epsilon = best
    if not _LOW <= share <= _HIGH:
        raise told(share, epsilon, "and nothing is in between: write an epsilon")
    log.info("%s: epsilon is %g, which leaves the dense model %.0f %% robust accuracy", name, epsilon, 100 * share)
    return epsilon
