"""How closely an objective follows the ratio of each group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoprune.plugin.results import TrialResult

_FEWEST = 10
"""Of fewer trials a correlation says nothing."""
_NORMAL_95 = 1.96


@dataclass(frozen=True)
class Importance:
    """Spearman's rank correlation of a group's ratio with an objective.

    Spearman, *The proof and measurement of association between two things*, American Journal of Psychology 15 (1904).
    Its size says how important the group is for the objective; its sign, which way the objective goes as more of the
    group goes. It tells what went together in the trials, not what caused it: a search that cuts two groups together
    gives both the same.
    """

    correlation: float
    """In [-1, 1]; ties have the mean of their ranks."""
    trials: int
    """How many it is of."""

    @property
    def told_from_chance(self) -> bool:
        """Whether independent values would come out smaller 19 times in 20: their deviation is 1 / √(trials − 1)."""
        return abs(self.correlation) > _NORMAL_95 / math.sqrt(self.trials - 1)


def group_importance(
    trials: Iterable[TrialResult], groups: Sequence[str], objectives: Iterable[str]
) -> dict[str, dict[str, Importance | None]]:
    """The importance of groups for objectives over the complete trials that have them all.

    Args:
        trials: Of a study, in any order.
        groups: Names of groups.
        objectives: Names of metrics.

    Returns:
        Per group, then per objective. None where there are fewer than ten trials, or all have the same ratio or value.
    """
    names = tuple(objectives)
    measured = [trial for trial in trials if trial.state == "complete" and _has_all(trial, names)]
    values = {name: _ranks([trial.metrics[name].value for trial in measured]) for name in names}
    ratios = {group: _ranks([trial.achieved.get(group, 0.0) for trial in measured]) for group in groups}
    return {group: {name: _of(ratios[group], values[name]) for name in names} for group in groups}


def _has_all(trial: TrialResult, names: Iterable[str]) -> bool:
    return all(name in trial.metrics and math.isfinite(trial.metrics[name].value) for name in names)


def _of(ratios: NDArray[np.float64], values: NDArray[np.float64]) -> Importance | None:
    if len(values) < _FEWEST or not ratios.std() or not values.std():
        return None
    return Importance(float(np.corrcoef(ratios, values)[0, 1]), len(values))


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """From 1 for the smallest; of equal values the mean."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (counts.cumsum() - (counts - 1) / 2)[places]
    return ranks
