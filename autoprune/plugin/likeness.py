"""Which of several models nothing measured tells apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from autoprune.plugin.values import Measured

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Metrics = Mapping[str, Measured]


def alike(searched: Sequence[Metrics], tested: Sequence[Metrics], names: Iterable[str]) -> NDArray[np.bool_]:
    """Whether two models differ in nothing that has an interval, and there is such a thing, of shape (N, N).

    All pairs at once: a front of 500 has 125,000.

    Args:
        searched: Of each of N models, on the validation split.
        tested: The same on the test split, empty where it was not measured; of two that have both, this counts.
        names: Metrics to compare.
    """
    import numpy as np

    both = np.array([bool(metrics) for metrics in tested], dtype=bool)
    both = both[:, None] & both[None, :]
    apart, known = np.zeros_like(both), np.zeros_like(both)
    for name in names:
        pairs = [_told_apart([metrics.get(name) for metrics in split]) for split in (tested, searched)]
        found, has = (np.where(both, *each) for each in zip(*pairs, strict=True))
        apart |= found
        known |= has
    same: NDArray[np.bool_] = known & ~apart
    np.fill_diagonal(same, val=False)
    return same


def _told_apart(measured: Sequence[Measured | None]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether `values.apart` tells each pair apart, and of which pairs that is known."""
    import numpy as np

    nothing = (np.nan,) * 3
    ends = [nothing if m is None or m.low is None or m.high is None else (m.value, m.low, m.high) for m in measured]
    value, low, high = np.array(ends, dtype=float).reshape(-1, 3).T
    has = ~np.isnan(low)
    difference = value[:, None] - value[None, :]
    with np.errstate(invalid="ignore"):
        least = difference - np.hypot((value - low)[:, None], (high - value)[None, :])
        most = difference + np.hypot((high - value)[:, None], (value - low)[None, :])
        return (least > 0) | (most < 0), has[:, None] & has[None, :]
