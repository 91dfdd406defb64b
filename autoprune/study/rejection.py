"""Not paying for what is already decided: a candidate is given up once the front dominates all that it can still be.

What is measured in part counts at the far end of a confidence interval. With every look at a candidate the interval
widens, so that over all looks together a candidate that would reach the front is given up at most with the stated
chance: look k may err with 6 / (π k)² of the chance, which sums to it (Bonferroni over any number of looks).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

from autoprune.plugin import Measured, dominates, losses
from autoprune.plugin.values import Direction
from autoprune.spec import Bound

_Z95 = NormalDist().inv_cdf(0.975)


class GivenUp(BaseException):
    """Ends an evaluation. Not an `Exception`, so that components that catch those let it pass."""

    def __init__(self, reason: str, measured: Mapping[str, Measured]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.measured = dict(measured)
        """What is known, by the names that objectives use."""


class Race:
    """One candidate against the front."""

    def __init__(
        self,
        rivals: Sequence[Sequence[float]],
        *,
        objectives: Mapping[str, Direction],
        constraints: Mapping[str, Bound],
        error: float,
    ) -> None:
        """Race against the front.

        Args:
            rivals: Losses of the front's members, in the order of the objectives.
            objectives: Direction per metric.
            constraints: Bounds.
            error: Chance of giving up a candidate that would reach the front; 0 gives up none.
        """
        self._objectives = objectives
        self._rivals = rivals
        self._constraints = constraints
        self._error = error
        self._looks = 0

    def look(self, measured: Mapping[str, Measured], partial: Mapping[str, Measured]) -> None:
        """Decide whether to go on.

        Args:
            measured: Metrics that are final.
            partial: Metrics that rest on some of their samples.

        Raises:
            GivenUp: It cannot reach the front any more.
        """
        if not self._error:
            return
        self._looks += bool(partial)
        chance = 6 * self._error / (math.pi * max(self._looks, 1)) ** 2 / max(len(partial), 1)
        widened = NormalDist().inv_cdf(1 - chance) / _Z95
        ends = {name: _ends(value, widened) for name, value in partial.items()}
        ends |= {name: (value.value, value.value) for name, value in measured.items()}
        for name, bound in self._constraints.items():
            if name in partial and min(bound.violation(end) for end in ends[name]) > 0:
                raise GivenUp(f"{name} will not be {bound}: {_so_far(name, partial)}", {**measured, **partial})
        if any(name not in ends for name in self._objectives):
            return
        best = {n: max(ends[n]) if d == "maximize" else min(ends[n]) for n, d in self._objectives.items()}
        if self.lost({name: Measured(value=value) for name, value in best.items()}):
            known = ", ".join(_so_far(name, partial) for name in partial) or "all objectives are known"
            raise GivenUp(f"dominated by the front: {known}", {**measured, **partial})

    def lost(self, measured: Mapping[str, Measured]) -> bool:
        """Whether a candidate with all objectives measured will never be on the front."""
        mine = losses(measured, self._objectives)
        return any(dominates(rival, mine) for rival in self._rivals)


def _ends(value: Measured, widened: float) -> tuple[float, float]:
    if value.low is None or value.high is None:
        return -math.inf, math.inf
    return value.value - widened * (value.value - value.low), value.value + widened * (value.high - value.value)


def _so_far(name: str, partial: Mapping[str, Measured]) -> str:
    value = partial[name]
    return f"{name} is {value.value:.4g} on {value.samples} samples"
