"""The Pareto front of finished trials and the volume that it dominates."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from autoprune.plugin import Front, FrontPoint, Measured, TrialResult, nondominated
from autoprune.plugin.front import RunningFront, least_worth
from autoprune.plugin.values import Direction

Values = NDArray[np.float64]


def pareto_front(results: Iterable[TrialResult], objectives: Mapping[str, Direction]) -> tuple[TrialResult, ...]:
    """The feasible trials that no other feasible trial dominates, best first objective first.

    Of trials with equal objectives the earliest stands for all.

    Args:
        results: Trials in any order.
        objectives: Direction per metric.
    """
    return RunningFront(objectives, results).members


def measure_front(
    results: Sequence[TrialResult],
    objectives: Mapping[str, Direction],
    test: Mapping[int, Mapping[str, Measured]],
    *,
    costs: Collection[str],
) -> Front:
    """The front with its hypervolume.

    Args:
        results: All trials of the study.
        objectives: Direction per metric.
        test: Per trial number what was measured on the test split.
        costs: Metrics that say what a model costs.
    """
    front, reference = RunningFront(objectives, results), _reference(results, objectives, costs)
    signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in objectives.values()])
    return Front(
        points=tuple(FrontPoint(trial=trial, test=dict(test.get(trial.number, {}))) for trial in front.members),
        objectives=dict(objectives),
        hypervolume=hypervolume(np.array(front.losses), signs * np.array(list(reference.values()))),
        reference=reference,
    )


def hypervolume(points: Values, reference: Values) -> float:
    """Exact volume between the points and the reference, everything minimised.

    While et al., *A fast way of calculating exact hypervolumes*, IEEE Transactions on Evolutionary Computation 16
    (2012): each point adds its own box less what the earlier points cover of it.

    Args:
        points: Of shape (N, M).
        reference: Of shape (M,). Points that are not better in every coordinate add nothing.
    """
    points = np.asarray(points, dtype=float).reshape(-1, len(reference))
    points = points[(points < reference).all(axis=1)]
    if not len(points):
        return 0.0
    points = points[np.lexsort(points.T[::-1])]
    if len(reference) == 1:
        return float(reference[0] - points[0, 0])
    if len(reference) == 2:
        ceilings = np.minimum.accumulate(np.concatenate([reference[1:], points[:-1, 1]]))
        return float(((reference[0] - points[:, 0]) * np.maximum(ceilings - points[:, 1], 0)).sum())
    points = points[nondominated(points)]
    total = 0.0
    for row, point in enumerate(points):
        # Earlier points are no worse in the first coordinate: what they cover of this point's box they cover over its
        # whole length there, which leaves a problem with one coordinate less.
        box = float((reference[1:] - point[1:]).prod())
        covered = hypervolume(np.maximum(points[:row, 1:], point[1:]), reference[1:])
        total += float(reference[0] - point[0]) * (box - covered)
    return total


def _reference(
    results: Sequence[TrialResult], objectives: Mapping[str, Direction], costs: Collection[str]
) -> dict[str, float]:
    """By the dense model; where it failed, the worst trial takes its place."""
    complete = [result for result in results if result.state == "complete"]
    dense = [result for result in complete if result.origin == "dense"]
    reference = {}
    for name, direction in objectives.items():
        worst = max((result.metrics[name].value for result in dense or complete), default=0.0)
        reference[name] = least_worth(direction, worst, costs=name in costs)
    return reference
