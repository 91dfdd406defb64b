"""Which members of a front are worth a look first, and by which rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoprune.plugin.results import FrontPoint, StudyInfo, StudyOutcome
from autoprune.plugin.values import Difference, Direction, Measured, apart
from autoprune.report._words import dense_trial, label

_WORTH_KEEPING = 0.95
_HALF = 0.5


@dataclass(frozen=True)
class Pick:
    """A member and why it is named."""

    names: tuple[str, ...]
    """``safest``, ``balanced``, ``smallest``: several where one member is several of them."""
    point: FrontPoint


RULES = {
    "safest": "the cheapest member that nothing measured shows to be worse than the dense model",
    "balanced": "the cheapest that keeps 95 % of the dense model, or what keeps most",
    "smallest": "the cheapest that keeps half of the dense model",
}
"""How each pick is found. Cheap is a small geometric mean of the minimised objectives."""


def picks(study: StudyInfo, outcome: StudyOutcome) -> tuple[Pick, ...]:
    """Up to three members of the front, the safest first; none where the front has no pruned model.

    Args:
        study: The study.
        outcome: How it ended.
    """
    pruned = [point for point in outcome.front.points if point.trial.origin != "dense"]
    if not pruned:
        return ()
    ranks = _Ranks(study, outcome, pruned)
    found = {
        "safest": min((p for p in pruned if not _surely_worse(study, outcome, p)), key=ranks.cost, default=None),
        "balanced": min(pruned, key=ranks.of),
        "smallest": min((p for p in pruned if ranks.kept(p) >= _HALF), key=ranks.cost, default=None),
    }
    by_number: dict[int, list[str]] = {}
    for name, point in found.items():
        if point is not None:
            by_number.setdefault(point.trial.number, []).append(name)
    points = {point.trial.number: point for point in pruned}
    return tuple(Pick(tuple(names), points[number]) for number, names in by_number.items())


def compromise(study: StudyInfo, outcome: StudyOutcome, points: Sequence[FrontPoint]) -> FrontPoint:
    """The best compromise of some members: the pick ``balanced``."""
    return min(points, key=_Ranks(study, outcome, points).of)


def named_member(study: StudyInfo, outcome: StudyOutcome) -> FrontPoint | None:
    """The member that the verdict is about; None where the front has no pruned model."""
    pruned = [point for point in outcome.front.points if point.trial.origin != "dense"]
    return compromise(study, outcome, pruned) if pruned else None


def share_of_dense(
    study: StudyInfo, name: str, metrics: Mapping[str, Measured], dense: Mapping[str, Measured]
) -> float | None:
    """The metric's value over the dense model's: as measured (``latency_ratio`` for ``latency_ms``), else divided."""
    said = label(name, study.units.get(name, ""))
    for other, unit in study.units.items():
        if unit == "fraction of dense" and label(other, unit) == said and other in metrics:
            return metrics[other].value
    value, whole = metrics[name].value, dense.get(name)
    return value / whole.value if whole is not None and whole.value > 0 and value >= 0 else None


def difference_from_dense(outcome: StudyOutcome, point: FrontPoint, name: str) -> Difference | None:
    """How much more of a metric a member has than the dense model, on as many samples as both were measured on.

    On the same samples where the evaluator compares them; else of two independent values, which says less.
    """
    dense = dense_trial(outcome)
    pairs = (
        (point.whole_test, outcome.dense_whole_test),
        (point.test, outcome.dense_test),
        (point.trial.metrics, dense.metrics if dense else {}),
    )
    for ours, theirs in pairs:
        if name in ours and name in theirs:
            return ours[name].difference or apart(ours[name], theirs[name])
    return None


def _surely_worse(study: StudyInfo, outcome: StudyOutcome, point: FrontPoint) -> bool:
    """Whether an objective that is no cost is worse than the dense model's by more than chance explains."""
    for name, direction in outcome.front.objectives.items():
        if name in study.costs:
            continue
        difference = difference_from_dense(outcome, point, name)
        if difference is None:
            return True  # nothing is known
        worse = difference.value < 0 if direction == "maximize" else difference.value > 0
        if worse and (difference.told_apart or difference.low is None):
            return True
    return False


class _Ranks:
    """Compares members by what they keep and what they cost."""

    def __init__(self, study: StudyInfo, outcome: StudyOutcome, points: Sequence[FrontPoint]) -> None:
        self._study, self._objectives = study, outcome.front.objectives
        dense = dense_trial(outcome)
        best = {n: Measured(value=max(p.trial.metrics[n].value for p in points)) for n in self._objectives}
        self._dense: Mapping[str, Measured] = dense.metrics if dense else best

    def kept(self, point: FrontPoint) -> float:
        """The least share of the dense model's that it keeps of what is maximised."""
        return min(self._shares(point, "maximize"), default=1.0)

    def cost(self, point: FrontPoint) -> tuple[float, int]:
        """What is minimised, all together."""
        return math.prod(self._shares(point, "minimize")), point.trial.number

    def of(self, point: FrontPoint) -> tuple[float, float, int]:
        """As a compromise."""
        return max(_WORTH_KEEPING - self.kept(point), 0.0), *self.cost(point)

    def _shares(self, point: FrontPoint, direction: Direction) -> list[float]:
        names = [name for name, way in self._objectives.items() if way == direction]
        found = [share_of_dense(self._study, name, point.trial.metrics, self._dense) for name in names]
        return [share for share in found if share is not None]
