"""Exact parameters, multiply-accumulates and bytes of a candidate, by arithmetic alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoprune.plugin import Costs, Group
from autoprune.structure.labeling import Labeling


@dataclass(frozen=True)
class _Extent:
    """A size that shrinks by so many entries for every unit that a group loses."""

    size: int
    per_unit: Mapping[str, int]

    def kept(self, cut_units: Mapping[str, int]) -> int:
        return self.size - sum(cut_units.get(group, 0) * entries for group, entries in self.per_unit.items())


@dataclass(frozen=True)
class CostModel:
    """Sizes of everything that costs, as functions of the units that each group loses."""

    _tensors: tuple[tuple[tuple[_Extent, ...], int, bool], ...]
    _products: tuple[tuple[int, tuple[_Extent, ...]], ...]
    _batch: int

    def __call__(self, cut_units: Mapping[str, int]) -> Costs:
        """Costs after every group lost so many units."""
        params = total = 0
        for extents, element, trained in self._tensors:
            entries = math.prod(extent.kept(cut_units) for extent in extents)
            params += entries if trained else 0
            total += entries * element
        macs = sum(factor * math.prod(e.kept(cut_units) for e in extents) for factor, extents in self._products)
        return Costs(params=params, macs=macs // self._batch, bytes=total)


def cost_model(network: nn.Module, groups: Sequence[Group], found: Labeling, batch: int) -> CostModel:
    """Build the arithmetic once per structure."""
    per_tensor: dict[tuple[str, int], dict[str, int]] = {}
    owner = torch.full((found.atoms,), -1, dtype=torch.int64)
    first = {(span.tensor, span.dim): span.first for span in found.ranges}
    for number, group in enumerate(groups):
        for part in group.slices:
            per_tensor.setdefault((part.parameter, part.dim), {})[group.name] = part.index.shape[1]
            owner[first[part.parameter, part.dim] + part.index] = number
    tensors = []
    seen: set[int] = set()
    named: list[tuple[str, Tensor]] = [*network.named_parameters(), *network.named_buffers()]
    for name, tensor in named:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            extents = tuple(_Extent(size, per_tensor.get((name, dim), {})) for dim, size in enumerate(tensor.shape))
            tensors.append((extents, tensor.element_size(), isinstance(tensor, nn.Parameter)))
    products = []
    for product in found.products:
        vectors = []
        for labels in product.vectors:
            owners, counts = torch.unique(owner[labels], return_counts=True)
            per_unit = {
                groups[o].name: c // groups[o].units
                for o, c in zip(owners.tolist(), counts.tolist(), strict=True)
                if o >= 0
            }
            vectors.append(_Extent(len(labels), per_unit))
        products.append((product.factor, tuple(vectors)))
    return CostModel(tuple(tensors), tuple(products), batch)
