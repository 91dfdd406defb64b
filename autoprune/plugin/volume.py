"""The volume that trials dominate together: how good a front is, as one number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from autoprune.plugin.domination import losses, nondominated
from autoprune.plugin.results import TrialResult
from autoprune.plugin.values import Direction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]


def hypervolume(points: Values, reference: Values) -> float:
    """Exact volume between the points and the reference, everything minimised.

    While et al., *A fast way of calculating exact hypervolumes*, IEEE Transactions on Evolutionary Computation 16
    (2012): each point adds its own box less what the earlier points cover of it.

    Args:
        points: Of shape (N, M).
        reference: Of shape (M,). Points that are not better in every coordinate add nothing.
    """
    import numpy as np

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


def volumes(
    results: Iterable[TrialResult], objectives: Mapping[str, Direction], reference: Mapping[str, float]
) -> dict[int, float]:
    """The hypervolume after each trial, as the search measured them.

    Args:
        results: Trials in any order; those that are not feasible add nothing.
        objectives: Direction per metric.
        reference: Of the hypervolume, per objective.

    Returns:
        By the trial's number, ascending.
    """
    import numpy as np

    corner = np.array([-reference[n] if d == "maximize" else reference[n] for n, d in objectives.items()])
    front, total, found = np.empty((0, len(corner))), 0.0, {}
    for result in sorted(results, key=lambda each: each.number):
        if result.feasible:
            point = np.array(losses(result.metrics, objectives))
            if (point < corner).all() and not (front <= point).all(axis=1).any():
                total += float((corner - point).prod()) - hypervolume(np.maximum(front, point), corner)
                front = np.vstack([front[~(front >= point).all(axis=1)], point])
        found[result.number] = total
    return found
