"""What latency follows better than multiply-accumulates do: those of sizes rounded up to whole vectors.

Kernels work on blocks of channels, 16 on CPUs with AVX-512 and 8 on tensor cores: 33 channels take as long as 48, so a
cut that does not empty a block buys nothing.

Shapes use: N candidates, G groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from autoprune.plugin import Choices, SearchedGroup

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Costs = Callable[[Ints, Sequence[Choices] | None], Mapping[str, Floats]]

BLOCKS = (1, 8, 16)
"""Channels that are computed together."""


def padded_macs(
    costs: Costs, groups: Sequence[SearchedGroup], cut_units: Ints, choices: Sequence[Choices] | None = None
) -> Floats:
    """Multiply-accumulates, of the dense model's, with what stays rounded up to each block, (N, 3).

    Groups of few units, such as heads, have many channels to a unit and are counted as they are.

    Args:
        costs: The exact arithmetic.
        groups: All groups.
        cut_units: Units that go (N, G).
        choices: The knobs of each candidate; the usual ones if None.
    """
    units = np.array([g.units for g in groups])
    whole = float(costs(np.zeros((1, len(groups)), dtype=np.int64), None)["macs"][0])
    columns = []
    for block in BLOCKS:
        kept = np.minimum(-(-(units - cut_units) // block) * block, units)
        columns.append(costs(np.where(units >= BLOCKS[-1], units - kept, cut_units), choices)["macs"] / whole)
    return np.stack(columns, axis=1)


def aligned(group: SearchedGroup, cuts: Ints) -> Ints:
    """These cuts and, next to each, the one that leaves whole blocks of 8; ascending."""
    if group.units < BLOCKS[-1]:
        return cuts
    left = np.rint((group.units - cuts) / 8).astype(np.int64) * 8
    near = (group.units - left) // group.step * group.step
    return np.unique(np.concatenate([cuts, near[(near >= group.fewest) & (near <= group.most)]]))
