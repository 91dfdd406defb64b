"""Costs of single layers of many candidates at once, each told when it is asked for.

Shapes use: N candidates, G groups, S sizes of a layer, T terms of its costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autoprune.plugin import Costs, Group, LayerCosts
from autoprune.structure.costs.model import CostModel, Extent


@dataclass(frozen=True)
class _Layer:
    kind: str
    shapes: Mapping[str, slice]
    """Per parameter or buffer where its sizes stand."""
    sizes: NDArray[np.float64]
    """Of shape (S,); the last one is 1."""
    per_unit: NDArray[np.float64]
    """What of them goes with each unit, of shape (G, S)."""
    factors: NDArray[np.int64]
    """Which sizes each term multiplies, of shape (T, most sizes of a term); the last size where there are fewer."""
    weights: NDArray[np.float64]
    """What each term counts as parameters, MACs of the example, bytes and non-zero parameters, of shape (T, 4)."""
    block: tuple[int, int] | None
    """Number of the group that leaves it out, and that group's units."""


@dataclass
class _Draft:
    """A layer while it is put together."""

    shapes: dict[str, slice] = field(default_factory=dict)
    sizes: list[Extent] = field(default_factory=list)
    terms: list[tuple[range, tuple[float, ...]]] = field(default_factory=list)

    def add(self, extents: Sequence[Extent], *weights: float) -> slice:
        """A term, if it has weights, and where its sizes stand."""
        place = slice(len(self.sizes), len(self.sizes) + len(extents))
        self.sizes.extend(extents)
        if weights:
            self.terms.append((range(place.start, place.stop), weights))
        return place

    def layer(self, kind: str, numbers: Mapping[str, int], block: tuple[int, int] | None) -> _Layer:
        """The layer, for groups of these numbers."""
        count = len(self.sizes)
        per_unit = np.zeros((len(numbers), count + 1))
        for column, extent in enumerate(self.sizes):
            for group, entries in extent.per_unit.items():
                per_unit[numbers[group], column] = entries
        most = max((len(columns) for columns, _ in self.terms), default=1)
        factors = np.full((len(self.terms), most), count)
        for row, (columns, _) in enumerate(self.terms):
            factors[row, : len(columns)] = columns
        return _Layer(
            kind,
            self.shapes,
            np.array([*(float(extent.size) for extent in self.sizes), 1.0]),
            per_unit,
            factors,
            np.array([weights for _, weights in self.terms]).reshape(-1, 4),
            block,
        )


class LayerTable:
    """Layers of a structure as functions of the units that each group loses."""

    def __init__(self, model: CostModel, groups: Sequence[Group]) -> None:
        """Rewrite the arithmetic of a structure.

        Args:
            model: The structure's.
            groups: The structure's.
        """
        drafts = {name: _Draft() for name in model.kinds}
        for tensor in model.stored:
            named = (name.rpartition(".") for name in tensor.names)
            owners = [(owner, local) for owner, _, local in named if owner in drafts]
            trained = 1.0 if tensor.trained else 0.0
            stored = 0.0, float(tensor.element_bytes)
            for place, (owner, local) in enumerate(owners):
                if place:  # it counts for the first of them
                    drafts[owner].shapes[local] = drafts[owner].add(tensor.extents)
                elif tensor.mask is None:
                    drafts[owner].shapes[local] = drafts[owner].add(tensor.extents, trained, *stored, trained)
                else:
                    units = tensor.mask.units
                    stays = Extent(units, {tensor.mask.name: 1})
                    drafts[owner].shapes[local] = drafts[owner].add(tensor.extents, trained, *stored, 0.0)
                    drafts[owner].add([*tensor.extents, stays], 0.0, 0.0, 0.0, trained / units)
        for work in model.work:
            if work.layer in drafts:
                drafts[work.layer].add(work.extents, 0.0, float(work.factor), 0.0, 0.0)
        self.batch = model.batch
        numbers = {group.name: number for number, group in enumerate(groups)}
        blocks = {f"{name}.": (numbers[g.name], g.units) for g in groups if g.owned for name in g.layers}
        self.layers = {
            name: draft.layer(
                model.kinds[name],
                numbers,
                next((block for prefix, block in blocks.items() if f"{name}.".startswith(prefix)), None),
            )
            for name, draft in drafts.items()
        }

    def __call__(self, cut_units: NDArray[np.int64]) -> list[Layers]:
        """Layers of candidates, as `Structure.layer_costs` tells them one after the other; none is left out.

        Args:
            cut_units: Units that go, of shape (N, G), in the order of the structure's groups.
        """
        many = _Many(self, cut_units)
        return [Layers(many, row) for row in range(len(cut_units))]


class _Many:
    """Of N candidates, the layers that were asked for."""

    def __init__(self, table: LayerTable, cut_units: NDArray[np.int64]) -> None:
        self.table = table
        self._cut_units = cut_units
        self._known: dict[str, tuple[list[list[int]], list[list[int]]]] = {}

    def layer(self, name: str, row: int) -> LayerCosts:
        layer = self.table.layers[name]
        if name not in self._known:
            sizes = layer.sizes - self._cut_units @ layer.per_unit
            totals = sizes[:, layer.factors].prod(axis=2) @ layer.weights
            self._known[name] = tuple(np.rint(each).astype(np.int64).tolist() for each in (sizes, totals))
        sizes_of, totals_of = (each[row] for each in self._known[name])
        params, macs, stored, nonzero = totals_of
        costs = Costs(params=params, macs=macs // self.table.batch, bytes=stored, nonzero=nonzero)
        return LayerCosts(layer.kind, {local: tuple(sizes_of[at]) for local, at in layer.shapes.items()}, costs)

    def share(self, name: str, row: int) -> float:
        block = self.table.layers[name].block
        return 1.0 if block is None else 1.0 - float(self._cut_units[row, block[0]]) / block[1]


class Layers(Mapping[str, LayerCosts]):
    """Of one candidate: costs of each module that owns parameters or buffers, by its name in the network."""

    def __init__(self, many: _Many, row: int) -> None:
        """One of many."""
        self._many = many
        self._row = row

    def share(self, name: str) -> float:
        """In how many, of all choices of the blocks that go, the layer stays: 1 outside of blocks."""
        return self._many.share(name, self._row)

    def __getitem__(self, name: str) -> LayerCosts:
        """Where it stays."""
        return self._many.layer(name, self._row)

    def __contains__(self, name: object) -> bool:
        return name in self._many.table.layers

    def __iter__(self) -> Iterator[str]:
        return iter(self._many.table.layers)

    def __len__(self) -> int:
        return len(self._many.table.layers)
