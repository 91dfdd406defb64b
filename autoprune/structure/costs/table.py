"""Costs of many candidates at once: every cost is a sum of products of sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoprune.plugin import Costs, Group
from autoprune.structure.costs.model import CostModel, Extent


class _Size(NamedTuple):
    size: int
    per_unit: tuple[tuple[int, int], ...]
    """Number of a group, and entries that go with each of its units."""


@dataclass(frozen=True)
class CostTable:
    """Terms ``weights × product of sizes``, all candidates in one pass.

    Shapes use: N candidates, G groups, S different sizes, T terms.
    """

    meetings: tuple[tuple[int, ...], ...]
    """Numbers of the groups whose cuts multiply in some cost."""
    _sizes: NDArray[np.float64]
    """Of shape (S,); the last one is 1."""
    _per_unit: NDArray[np.float64]
    """Of shape (G, S)."""
    _factors: NDArray[np.int64]
    """Which sizes each term multiplies, of shape (T, most sizes of a term); the last size where there are fewer."""
    _weights: NDArray[np.float64]
    """What each term counts as parameters, MACs of the example, bytes and zeros, of shape (T, 4)."""
    _batch: int
    """Samples in the example."""

    def __call__(self, cut_units: NDArray[np.int64]) -> list[Costs]:
        """Costs of candidates.

        Of blocks only how many go is given, so the mean over all choices of them is taken; masked entries are counted
        before rounding. Everything else is exact.

        Args:
            cut_units: Units that go, of shape (N, G), in the order of the structure's groups.
        """
        sizes = self._sizes - cut_units @ self._per_unit
        products = sizes[:, self._factors[:, 0]]
        for column in self._factors.T[1:]:
            products = products * sizes[:, column]
        totals = np.rint(products @ self._weights).astype(np.int64).tolist()
        return [Costs(params=p, macs=m // self._batch, bytes=b, nonzero=p - z) for p, m, b, z in totals]


def cost_table(model: CostModel, groups: Sequence[Group]) -> CostTable:
    """Rewrite the arithmetic of a structure.

    Args:
        model: The structure's.
        groups: The structure's.
    """
    number = {group.name: index for index, group in enumerate(groups)}
    blocks = {f"{name}.": (number[g.name], g.units) for g in groups if g.owned for name in g.layers}
    terms: list[tuple[tuple[float, float, float, float], list[_Size]]] = []

    def size(extent: Extent) -> _Size:
        return _Size(extent.size, tuple((number[name], entries) for name, entries in extent.per_unit.items()))

    def present(names: Sequence[str]) -> Iterator[_Size]:
        """Blocks that all of these names are in: of so many units, those that stay."""
        for prefix, (group, units) in blocks.items():
            if all(name.startswith(prefix) for name in names):
                yield _Size(units, ((group, 1),))

    def add(weights: tuple[float, float, float, float], extents: Sequence[Extent], extra: Sequence[_Size]) -> None:
        share = float(np.prod([float(s.size) for s in extra]))
        terms.append(((*(w / share for w in weights),), [*map(size, extents), *extra]))  # type: ignore[arg-type]

    for tensor in model.stored:
        extra = list(present(tensor.names))
        trained = 1.0 if tensor.trained else 0.0
        add((trained, 0.0, float(tensor.element_bytes), 0.0), tensor.extents, extra)
        if (mask := tensor.mask) is not None:
            # Of the entries that are left, the share of units that go: units − (units that stay).
            stays = _Size(mask.units, ((number[mask.name], 1),))
            add((0.0, 0.0, 0.0, trained), tensor.extents, extra)
            add((0.0, 0.0, 0.0, -trained), tensor.extents, [*extra, stays])
    for work in model.work:
        add((0.0, float(work.factor), 0.0, 0.0), work.extents, list(present((f"{work.module}.",))))
    return _table(terms, len(groups), model.batch)


def _table(terms: Sequence[tuple[tuple[float, ...], Sequence[_Size]]], groups: int, batch: int) -> CostTable:
    sizes = list(dict.fromkeys(size for _, product in terms for size in product))
    column = {size: index for index, size in enumerate(sizes)}
    per_unit = np.zeros((groups, len(sizes) + 1))
    for index, size in enumerate(sizes):
        for group, entries in size.per_unit:
            per_unit[group, index] += entries
    most = max((len(product) for _, product in terms), default=1)
    factors = np.full((len(terms), most), len(sizes))
    meetings = dict[tuple[int, ...], None]()
    for row, (_, product) in enumerate(terms):
        factors[row, : len(product)] = [column[size] for size in product]
        meetings[tuple(sorted({group for size in product for group, _ in size.per_unit}))] = None
    return CostTable(
        meetings=tuple(meeting for meeting in meetings if len(meeting) > 1),
        _sizes=np.array([*(float(size.size) for size in sizes), 1.0]),
        _per_unit=per_unit,
        _factors=factors,
        _weights=np.array([weights for weights, _ in terms]),
        _batch=batch,
    )
