"""The damage that cuts do, from the measured sensitivity of each group alone.

Shapes use: N candidates, G groups, K probes of a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from autoprune.plugin import SearchedGroup, Sensitivity
from autoprune_samplers._surrogate import Link, fit_link

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Profile:
    """Divergence from the dense model's predictions per group and cut; over groups it adds up.

    Between probes the root of the divergence is interpolated: a divergence starts out as a square.
    """

    def __init__(self, groups: Sequence[SearchedGroup], measured: Mapping[str, Sensitivity]) -> None:
        """Of the groups.

        Args:
            groups: All of them.
            measured: Per group. One that is missing is taken for the median of the others.
        """
        curves = {
            g.name: _curve(g, measured[g.name]) for g in groups if g.name in measured and measured[g.name].cut_units
        }
        grid = np.linspace(0.0, 1.0, 21)
        roots = [_interpolated(grid, *curve) for curve in curves.values()]
        usual = self._usual = (grid, np.median(roots, axis=0) if roots else grid)
        self._table = np.zeros((len(groups), max(g.most for g in groups) + 1))
        for row, group in enumerate(groups):
            shares = np.arange(group.most + 1) / group.units
            self._table[row, : group.most + 1] = _interpolated(shares, *curves.get(group.name, usual)) ** 2
        probes = [s for s in measured.values() if s.cut_units]
        self.link: Link = fit_link(
            np.array([d for s in probes for d in s.divergence]), np.array([a for s in probes for a in s.agreement])
        )
        """Damage to the share of predictions that survive it."""

    def per_group(self, cut_units: Ints) -> Floats:
        """Damage by each group alone, (N, G).

        Args:
            cut_units: Units that go (N, G).
        """
        damage: Floats = self._table[np.arange(len(self._table)), cut_units]
        return damage

    def usual(self, shares: Floats) -> Floats:
        """Damage by the median group, if such shares of it went, of any shape."""
        damage: Floats = _interpolated(shares, *self._usual) ** 2
        return damage


def _curve(group: SearchedGroup, measured: Sensitivity) -> tuple[Floats, Floats]:
    shares = np.array([0, *measured.cut_units]) / group.units
    roots = np.sqrt(np.maximum.accumulate([0.0, *measured.divergence]))
    return shares, roots


def _interpolated(at: Floats, shares: Floats, roots: Floats) -> Floats:
    """Between the probes, and along the last line beyond them."""
    slope = (roots[-1] - roots[-2]) / (shares[-1] - shares[-2])
    inside: Floats = np.interp(at, shares, roots)
    inside += slope * np.maximum(at - shares[-1], 0.0)
    return inside
