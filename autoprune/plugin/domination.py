"""Which trials nothing else beats. Their losses are the objectives, each with the sign that makes less better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from autoprune.plugin.values import Direction, Measured

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def losses(metrics: Mapping[str, Measured], objectives: Mapping[str, Direction]) -> tuple[float, ...]:
    """A trial's objectives, each to be minimised.

    Args:
        metrics: What was measured; has all objectives.
        objectives: Direction per metric.
    """
    return tuple(-metrics[n].value if d == "maximize" else metrics[n].value for n, d in objectives.items())


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the first losses are nowhere worse than the second, and somewhere better."""
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def nondominated(points: NDArray[np.float64]) -> list[int]:
    """Rows of losses (N, M) that no other row dominates, ascending; of equal ones all."""
    import numpy as np

    # In lexical order, what dominates a row comes before it.
    left, found = np.lexsort(points.T[::-1]), []
    while len(left):
        first, left = left[0], left[1:]
        found.append(int(first))
        worse = (points[left] >= points[first]).all(axis=1) & (points[left] > points[first]).any(axis=1)
        left = left[~worse]
    return sorted(found)
