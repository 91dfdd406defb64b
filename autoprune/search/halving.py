"""Recovery budgets that grow for the promising: successive halving over the front's rank.

A candidate starts with a fraction of the recovery. Whenever a rung holds enough, the best third of it, by rank of
non-domination and then by how alone they stand on their front, is tried again with three times as much. That goes on
while other trials run (ASHA: Li et al., *A System for Massively Parallel Hyperparameter Tuning*, arXiv:1810.05934;
ranked for several objectives as in NSGA-II: Deb et al., IEEE Transactions on Evolutionary Computation 6, 2002).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from autoprune.plugin import TrialResult
from autoprune.plugin.values import Direction
from autoprune.search.front import ranked

FACTOR = 3
"""One in so many is promoted, to so many times the effort."""


@dataclass(frozen=True)
class Promotion:
    """A trial that is tried again."""

    trial: int
    effort: float
    """Share of the full recovery that it gets now."""


def efforts(rungs: int) -> tuple[float, ...]:
    """Share of the full recovery on every rung, ascending; the last one is all of it."""
    return tuple(float(FACTOR) ** (rung - rungs + 1) for rung in range(rungs))


def promotion(
    results: Sequence[TrialResult],
    objectives: Mapping[str, Direction],
    *,
    rungs: int,
    promoted: Collection[int],
) -> Promotion | None:
    """What has earned more, on the highest rung first; None if a new candidate is due.

    Args:
        results: The finished trials, by number.
        objectives: Direction per metric.
        rungs: Their number.
        promoted: Numbers of the trials that were promoted already.
    """
    levels = efforts(rungs)
    for now, then in reversed(list(pairwise(levels))):
        rung = [r for r in results if r.origin != "dense" and r.effort == now]
        allowed = len(rung) // FACTOR
        if allowed <= sum(r.number in promoted for r in rung):
            continue
        best = ranked([r for r in rung if r.feasible], objectives)[:allowed]
        for result in best:
            if result.number not in promoted:
                return Promotion(trial=result.number, effort=then)
    return None
