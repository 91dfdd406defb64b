"""From the units that stay to a `Plan`: what changes in the dense network, or in an earlier cut of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.structure.groups.masks import expanded
from autoprune.structure.groups.numbering import Indices, Kept, Numbering, lies_in
from autoprune.structure.surgery.copying import module_at, module_or_none, named_tensors
from autoprune.structure.surgery.plan import Plan
from autoprune.structure.surgery.sizes import resized

Shapes = Mapping[str, Mapping[str, tuple[str, torch.Size]]]


@dataclass(frozen=True)
class Planner:
    """What has to be known of a network, besides where its units are, to plan cuts of it."""

    numbering: Numbering
    names: Mapping[str, tuple[str, ...]] = field(repr=False)
    """Cut tensor to all of its names: tied weights have several."""
    shapes: Shapes = field(repr=False)
    """Module that owns cut tensors to those of its own that tell its sizes: their names and shapes."""
    sizes: Mapping[tuple[str, str], Tensor] = field(repr=False)
    """Module and attribute that holds a size to the units of the dimension that it counts; -1 where none is."""
    whole_groups: frozenset[str] = field(repr=False)
    """Modules (grouped convolutions, group norms) that lose whole groups."""

    def plan(self, network: nn.Module, kept: Kept, before: Kept) -> Plan:
        """What a cut changes.

        Args:
            network: The dense network, or the cut of it that ``before`` says.
            kept: The units that stay, all of them among ``before``.
            before: Those that there are.

        Raises:
            StructureError: A group is unknown or would lose every unit, a unit is gone already, or the network is not
                the one that ``before`` says.
        """
        self.numbering.check(kept, before)
        stays = self.numbering.stays(kept)
        indices = self.numbering.indices(kept, stays)
        bypassed = self.numbering.bypassed(kept)
        if not before:
            attributes = self._attributes(network, indices, stays, {}, {})
            return Plan(indices, attributes, self._masks(kept), bypassed)
        gone = self.numbering.bypassed(before)
        earlier = self.numbering.indices(before, self.numbering.stays(before))
        there = named_tensors(network)
        names = {name: next((n for n in every if n in there), None) for name, every in self.names.items()}
        changes = {new: _renumbered(dims, earlier.get(old, {})) for old, dims in indices.items() if (new := names[old])}
        masks = {}
        for name, mask in self._masks(kept).items():
            if name in there:
                masks[name] = _sliced(mask, earlier.get(name, {}))
        self._check_zeros(kept, before)
        return Plan(
            {name: dims for name, dims in changes.items() if dims},
            self._attributes(network, indices, stays, earlier, gone),
            masks,
            {name: outputs for name, outputs in bypassed.items() if name not in gone},
        )

    def _masks(self, kept: Kept) -> dict[str, Tensor]:
        return {
            group.masked: expanded(group, kept[group.name].cpu(), self.numbering.masked[group.name])
            for group in self.numbering.groups
            if group.masked and group.name in kept and not kept[group.name].all()
        }

    def _check_zeros(self, kept: Kept, before: Kept) -> None:
        """Zeros stay zero, wherever other cuts leave them."""
        left = self.numbering.indices(kept, self.numbering.stays(kept))
        for group in self.numbering.groups:
            if group.masked and group.name in kept and group.name in before:
                back = expanded(
                    group, (kept[group.name] & ~before[group.name]).cpu(), self.numbering.masked[group.name]
                )
                if _sliced(back, left.get(group.masked, {})).any():
                    raise StructureError(f"{group.name} would keep units that an earlier cut took away")

    def _attributes(
        self, network: nn.Module, indices: Indices, stays: Tensor, earlier: Indices, gone: Mapping[str, int]
    ) -> dict[str, dict[str, object]]:
        """Module to attribute to its value, of those that are not so yet."""
        changes: dict[str, dict[str, object]] = {}
        for owner in dict.fromkeys(alias.rpartition(".")[0] for name in indices for alias in self.names[name]):
            module = module_or_none(network, owner)
            if module is None:  # gone with its block, or a second name that an exported graph does not have
                continue
            shapes: dict[str, Sequence[int]] = {}
            for local, (name, dense) in self.shapes[owner].items():
                shapes[local] = _left(dense, indices[name]) if name in indices else dense
                was = _left(dense, earlier[name]) if name in earlier else dense
                tensor = module._parameters.get(local, module._buffers.get(local))
                if tensor is not None and tensor.shape != was:
                    raise StructureError(
                        f"{name} is of shape {tuple(tensor.shape)}, not {tuple(was)}: the network is "
                        + ("not cut as it is said to be" if earlier else "cut already, and nothing says how")
                    )
            if new := resized(module, shapes, owner in self.whole_groups):
                changes[owner] = new
        for (holder, attribute), units in self.sizes.items():
            size = int(stays[units].sum())
            if size == len(units) or (gone and lies_in(holder, gone)):
                continue
            if module_at(network, holder).__dict__.get(attribute) != size:
                changes.setdefault(holder, {})[attribute] = size
        return changes


def _left(dense: torch.Size, dims: Mapping[int, Tensor]) -> torch.Size:
    """What a cut leaves of a shape."""
    shape = list(dense)
    for dim, index in dims.items():
        shape[dim] = index.shape[0]
    return torch.Size(shape)


def _renumbered(dims: Mapping[int, Tensor], earlier: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Dense indices as those of a tensor that earlier cuts left, where any of it goes."""
    return {
        dim: torch.searchsorted(earlier[dim], index) if dim in earlier else index
        for dim, index in dims.items()
        if dim not in earlier or len(index) < len(earlier[dim])
    }


def _sliced(mask: Tensor, indices: Mapping[int, Tensor]) -> Tensor:
    for dim, index in indices.items():
        mask = mask.index_select(dim, index)
    return mask
