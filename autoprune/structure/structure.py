"""A model's structure: what can be cut, cutting it, and what a cut costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.plugin import Costs, Group
from autoprune.structure.costs import CostModel, cost_model
from autoprune.structure.cut import Plan, apply, resized
from autoprune.structure.graph import Traced, trace
from autoprune.structure.labeler import Labeler
from autoprune.structure.labeling import Labeling
from autoprune.structure.reference import Masked
from autoprune.structure.units import Uncut, find_groups, layer_of


@dataclass(frozen=True)
class Structure:
    """What `discover` finds. Units are offered only after a cut of them was seen to equal the masked original."""

    groups: tuple[Group, ...]
    uncut: tuple[Uncut, ...]
    """What stays whole, and why."""
    layers: tuple[str, ...]
    """Names of all layers with parameters."""
    _costs: CostModel = field(repr=False)
    _whole_groups: frozenset[str] = field(repr=False)
    _units: Mapping[tuple[str, int], Tensor] = field(repr=False)
    """Parameter and dimension to the number, over all groups, of the unit at each index; -1 where none is. Equal
    tensors are one object: a layer's rows, its norm and its readers' columns."""
    _shapes: Mapping[str, Mapping[str, torch.Size]] = field(repr=False)
    """Module that owns cut tensors to the shapes of its own tensors."""
    _sizes: Mapping[tuple[str, str], Tensor] = field(repr=False)
    """Module and attribute that holds a size to the units of the dimension that it counts; -1 where none is."""
    _aliases: Mapping[str, tuple[str, ...]] = field(repr=False)
    """Every name of a cut tensor: tied weights have several."""

    def plan(self, network: nn.Module, kept: Mapping[str, Tensor]) -> Plan:
        """What a cut changes.

        Args:
            network: The dense network.
            kept: Per group the indices of the units that stay; a group left out stays whole.

        Raises:
            StructureError: A group is unknown or would lose every unit.
        """
        keep = torch.ones(sum(group.units for group in self.groups) + 1, dtype=torch.bool)
        offset, changed = 0, set()
        for group in self.groups:
            if group.name in kept and len(kept[group.name]) < group.units:
                if not len(kept[group.name]):
                    raise StructureError(f"{group.name} would lose all of its {group.units} units")
                keep[offset : offset + group.units] = False
                keep[offset + kept[group.name].cpu()] = True
                changed |= {(part.parameter, part.dim) for part in group.slices}
            offset += group.units
        if unknown := set(kept) - {group.name for group in self.groups}:
            raise StructureError(f"there is no group {sorted(unknown)[0]!r}")
        tensors: dict[str, dict[int, Tensor]] = {}
        indices: dict[int, Tensor] = {}
        for name, dim in sorted(changed):
            units = self._units[name, dim]
            if id(units) not in indices:
                # Index -1, no unit, reads the last entry, which is always kept.
                indices[id(units)] = keep[units].nonzero().view(-1)
            tensors.setdefault(name, {})[dim] = indices[id(units)]
        attributes = self._attributes(network, tensors)
        for (module, attribute), units in self._sizes.items():
            size = int(keep[units].sum())
            if size != len(units):
                attributes.setdefault(module, {})[attribute] = size
        return Plan(tensors, attributes)

    def _attributes(self, network: nn.Module, kept: Mapping[str, Mapping[int, Tensor]]) -> dict[str, dict[str, object]]:
        changes: dict[str, dict[str, object]] = {}
        kept = {alias: dims for name, dims in kept.items() for alias in self._aliases[name]}
        modules = dict(network.named_modules(remove_duplicate=False))
        for owner in dict.fromkeys(name.rpartition(".")[0] for name in kept):
            shapes = {}
            for name, dense in self._shapes[owner].items():
                shape = list(dense)
                for dim, index in kept.get(f"{owner}.{name}" if owner else name, {}).items():
                    shape[dim] = len(index)
                shapes[name] = torch.Size(shape)
            if new := resized(modules[owner], shapes, owner in self._whole_groups):
                changes[owner] = new
        return changes

    def cut(self, network: nn.Module, kept: Mapping[str, Tensor]) -> nn.Module:
        """A smaller copy of the dense network, see `plan`."""
        return apply(network, self.plan(network, kept))

    def masked(self, network: nn.Module, kept: Mapping[str, Tensor]) -> nn.Module:
        """The dense-sized reference that `cut` equals: every parameter entry of a cut unit is zero."""
        return Masked(network, self.plan(network, kept))

    def costs(self, cut_units: Mapping[str, int] | None = None) -> Costs:
        """Exact costs after every group lost so many units, by arithmetic."""
        return self._costs(cut_units or {})


def build(
    network: nn.Module,
    traced: Traced,
    found: Labeling,
    refused: Mapping[str, str],
    sizes: Mapping[tuple[str, str], Tensor],
) -> Structure:
    """Structure of a labelled graph.

    Args:
        network: The dense network.
        traced: Its graph.
        found: What labels found.
        refused: Groups that are not offered, name to reason.
        sizes: Module and attribute that holds a size, to the labels of the dimension that it counts.
    """
    groups, uncut = find_groups(found, traced.tensors)
    refusals = tuple(Uncut(layer, g.units, refused[g.name]) for g in groups if g.name in refused for layer in g.layers)
    offered = tuple(group for group in groups if group.name not in refused)
    first = {(span.tensor, span.dim): (span.first, span.size) for span in found.ranges}
    unit_of_atom = torch.full((found.atoms,), -1)
    offset = 0
    for group in offered:
        numbers = torch.arange(offset, offset + group.units).unsqueeze(1)
        for part in group.slices:
            unit_of_atom[first[part.parameter, part.dim][0] + part.index] = numbers.expand_as(part.index)
        offset += group.units
    units: dict[tuple[str, int], Tensor] = {}
    shared: dict[bytes, Tensor] = {}
    for key in dict.fromkeys((part.parameter, part.dim) for group in offered for part in group.slices):
        start, size = first[key]
        of_key = unit_of_atom[start : start + size].clone()
        units[key] = shared.setdefault(of_key.numpy().tobytes(), of_key)
    aliases = _aliases(network, {name for name, _ in units})
    return Structure(
        groups=offered,
        uncut=uncut + refusals,
        layers=tuple(dict.fromkeys(layer_of(name) for name, _ in network.named_parameters())),
        _costs=cost_model(network, offered, found, traced.batch),
        _whole_groups=frozenset(found.whole_groups),
        _units=units,
        _shapes=_shapes(network, {alias for name, _ in units for alias in aliases[name]}),
        _sizes={key: unit_of_atom[labels] for key, labels in sizes.items()},
        _aliases=aliases,
    )


def _shapes(network: nn.Module, names: set[str]) -> dict[str, dict[str, torch.Size]]:
    result: dict[str, dict[str, torch.Size]] = {}
    for owner in {name.rpartition(".")[0] for name in names}:
        module = network.get_submodule(owner)
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        result[owner] = {name: tensor.shape for name, tensor in own}
    return result


def _aliases(network: nn.Module, names: set[str]) -> dict[str, tuple[str, ...]]:
    by_tensor: dict[int, list[str]] = {}
    every = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    for name, tensor in every:
        by_tensor.setdefault(id(tensor), []).append(name)
    return {name: tuple(by_tensor[id(tensor)]) for name, tensor in every if name in names}


def discover(network: nn.Module, inputs: Sequence[Tensor]) -> Structure:
    """Find the groups of units that can be cut exactly.

    Every proposal is verified: units are cut, the smaller network runs on the example, and its outputs must equal the
    masked original's. What does not verify is not offered, and named in ``uncut``.

    Args:
        network: The dense network; left as it was.
        inputs: Positional example inputs, each of shape (N, …), N ≥ 2, as the network takes them (normalised).

    Raises:
        StructureError: The network cannot be traced or does not run on the example.
    """
    from autoprune.structure.verify import verified  # here, since it builds structures itself

    traced = trace(network, inputs)
    found = Labeler(traced, {}).label()
    return verified(network, inputs, traced, found)
