"""Which unit every index of every cut tensor belongs to, and so what stays of the tensors when units go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from autoprune.errors import StructureError
from autoprune.plugin import Group

Kept = Mapping[str, Tensor]
"""Per group the units that stay: sorted indices, int64; of weights and kernels a bool for each of the U units. A group
that is left out is whole."""
Indices = Mapping[str, Mapping[int, Tensor]]
"""Tensor to dimension to the sorted indices that stay, int64; what is left out is whole."""


@dataclass(frozen=True)
class Numbering:
    """Units are numbered through all groups with slices, in their order; -1 is no unit."""

    groups: tuple[Group, ...]
    units: Mapping[tuple[str, int], Tensor] = field(repr=False)
    """Tensor and dimension to the unit at each index. Equal ones are one object: a layer's rows, its norm and its
    readers' columns."""
    outputs: Mapping[str, Tensor] = field(repr=False)
    """Layer to the units of what it makes, in the order of its outputs."""
    masked: Mapping[str, torch.Size] = field(repr=False)
    """Mask group to the shape of its parameter."""
    blocks: Mapping[str, int] = field(repr=False)
    """Block to the length of the tuple that it returns; 0 for a bare tensor."""

    @cached_property
    def by_name(self) -> Mapping[str, Group]:
        """The groups by their names."""
        return {group.name: group for group in self.groups}

    @cached_property
    def _sliced(self) -> tuple[tuple[Group, int, dict[tuple[str, int], None]], ...]:
        """Groups with slices, the number of their first unit, and the dimensions of tensors that their units lie in."""
        found, first = [], 0
        for group in self.groups:
            if group.slices:
                found.append((group, first, dict.fromkeys((part.parameter, part.dim) for part in group.slices)))
                first += group.units
        return tuple(found)

    def check(self, kept: Kept, before: Kept) -> None:
        """Whether units can stay.

        Args:
            kept: Which.
            before: Those that there are.

        Raises:
            StructureError: A group is unknown or would lose every unit, or a unit is gone already.
        """
        if unknown := sorted({*kept, *before} - self.by_name.keys()):
            raise StructureError(f"there is no group {unknown[0]!r}")
        for name, units in kept.items():
            group = self.by_name[name]
            if not group.masked and not len(units):
                raise StructureError(f"{name} would lose all of its {group.units} units")
            if name in before and not group.masked and not torch.isin(units.cpu(), before[name].cpu()).all():
                raise StructureError(f"{name} would keep units that an earlier cut took away")

    def bypassed(self, kept: Kept) -> dict[str, int]:
        """The blocks that are left out, to the length of the tuple that each returned."""
        return {
            name: self.blocks[name]
            for group in self.groups
            if group.owned and group.name in kept
            for unit, name in enumerate(group.layers)
            if not (kept[group.name] == unit).any()
        }

    def stays(self, kept: Kept) -> Tensor:
        """Whether each unit stays, bool; the last entry, which index -1 reads, is True."""
        total = sum(group.units for group, _, _ in self._sliced)
        stays = torch.ones(total + 1, dtype=torch.bool)
        for group, first, _ in self._sliced:
            if group.name in kept and len(kept[group.name]) < group.units:
                stays[first : first + group.units] = False
                stays[first + kept[group.name].cpu()] = True
        return stays

    def indices(self, kept: Kept, stays: Tensor) -> dict[str, dict[int, Tensor]]:
        """What stays of every tensor that loses something.

        Args:
            kept: The units that stay.
            stays: The same as `stays` says it.
        """
        changed = dict[tuple[str, int], None]()
        for group, _, slots in self._sliced:
            if group.name in kept and len(kept[group.name]) < group.units:
                changed.update(slots)
        tensors: dict[str, dict[int, Tensor]] = {}
        seen: dict[int, Tensor] = {}
        for name, dim in changed:
            units = self.units[name, dim]
            index = seen.get(id(units))
            if index is None:
                index = seen[id(units)] = stays[units].nonzero().view(-1)
            tensors.setdefault(name, {})[dim] = index
        return tensors

    def rows(self, kept: Kept, layer: str) -> Tensor:
        """Indices of a layer's outputs that stay, int64, ascending; none of a layer in a block that is left out.

        Raises:
            StructureError: There is no such layer.
        """
        if layer not in self.outputs:
            raise StructureError(f"there is no layer {layer!r} that makes outputs")
        if lies_in(layer, self.bypassed(kept)):
            return torch.zeros(0, dtype=torch.int64)
        return self.stays(kept)[self.outputs[layer]].nonzero().view(-1)


def lies_in(name: str, blocks: Iterable[str]) -> bool:
    """Whether a module or tensor belongs to one of those blocks."""
    return any(name == block or name.startswith(f"{block}.") for block in blocks)
