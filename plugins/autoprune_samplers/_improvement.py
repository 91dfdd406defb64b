"""How much a candidate is expected to add to the hypervolume.

The hypervolume is a mean over directions (Zhang and Golovin, *Random hypervolume scalarizations for provable
multi-objective black box optimization*, arXiv:2006.04655): along direction w, all points together reach as far as the
best of ``min over objectives of (reference − value) / w``. So what a point adds takes one comparison per direction, for
any number of objectives.

Shapes use: N points, M objectives (all minimised), W directions, D draws.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def directions(objectives: int, count: int, rng: np.random.Generator) -> Floats:
    """Unit vectors in the positive orthant, uniform over it, of shape (W, M)."""
    drawn = np.abs(rng.standard_normal((count, objectives)))
    unit: Floats = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return np.maximum(unit, 1e-6)


def reach(points: Floats, towards: Floats) -> Floats:
    """How far points reach along directions, to the power that makes the mean over directions a volume.

    Args:
        points: Relative to the reference at 0 and scaled, so that better is more negative, (…, M).
        towards: Directions (W, M).

    Returns:
        Of shape (…, W); 0 where a point is not better than the reference in every objective.
    """
    along = -points[..., 0, None] / towards[:, 0]
    for objective in range(1, towards.shape[1]):
        along = np.minimum(along, -points[..., objective, None] / towards[:, objective])
    volume: Floats = np.maximum(along, 0.0) ** towards.shape[1]
    return volume


def expected_improvement(draws: Floats, known: Floats, towards: Floats) -> Floats:
    """Mean over draws and directions of what each candidate would add to what is known.

    Args:
        draws: Possible objective values of each candidate, (D, N, M).
        known: Points that were measured, (K, M).
        towards: Directions (W, M).

    Returns:
        Of shape (N,), up to a constant factor.
    """
    best = reach(known, towards).max(axis=0) if len(known) else np.zeros(len(towards))
    gains = np.zeros(draws.shape[1])
    for draw in draws:
        gains += np.maximum(reach(draw, towards) - best, 0.0).mean(axis=1)
    return gains / len(draws)
