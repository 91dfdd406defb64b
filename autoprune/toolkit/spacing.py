"""An order in which the first few points, however many they are, show all of a front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def spaced(points: Sequence[Sequence[float]], first: int = 0) -> list[int]:
    """Indices of points, each the farthest from those before it (Gonzalez 1985, 10.1016/0304-3975(85)90224-5).

    Args:
        points: Of shape (N, M); every coordinate counts by its range.
        first: Which one to begin with.
    """
    if not points:
        return []
    values = np.asarray(points, dtype=float)
    span = np.ptp(values, axis=0)
    scaled = values / np.where(span > 0, span, 1)
    order, distance = [first], np.full(len(values), np.inf)
    while len(order) < len(values):
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[order[-1]], axis=1))
        distance[order[-1]] = -1
        order.append(int(distance.argmax()))
    return order
