"""A model's structure: what can be cut, cutting it, and what a cut costs."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.plugin import Costs, Group, Inputs
from autoprune.structure.costs.model import CostModel, cost_model
from autoprune.structure.costs.table import CostTable, cost_table
from autoprune.structure.graph.labeling import Labeling
from autoprune.structure.graph.trace import Traced
from autoprune.structure.groups.channels import Uncut, find_groups, layer_of
from autoprune.structure.groups.masks import chosen, expanded
from autoprune.structure.surgery.cut import Plan, apply, module_at, resized, telling_sizes
from autoprune.structure.surgery.exported import Template
from autoprune.structure.surgery.folding import foldable, folded
from autoprune.structure.verify.reference import Masked


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
    _shapes: Mapping[str, Mapping[str, tuple[str, torch.Size]]] = field(repr=False)
    """Module that owns cut tensors to those of its own that tell its sizes: their names and shapes."""
    _owners: Mapping[str, tuple[str, ...]] = field(repr=False)
    """Cut tensor to the modules that own it: tied weights have several."""
    _sizes: Mapping[tuple[str, str], Tensor] = field(repr=False)
    """Module and attribute that holds a size to the units of the dimension that it counts; -1 where none is."""
    _averages: Mapping[tuple[str, str, int], tuple[int, Tensor]] = field(repr=False)
    """Module, operator and number of its call there to the dimension that it averages over, and the units along it."""
    example: Inputs = field(repr=False)
    """What it was found with."""
    _template: Template | None = field(repr=False)
    """The exported graph, where that is the pruned model."""
    _unit_of_atom: Tensor = field(repr=False)
    """Label in that graph to the unit; -1 where there is none."""
    _masked: Mapping[str, torch.Size] = field(repr=False)
    """Mask group to the shape of its parameter."""
    _blocks: Mapping[str, int] = field(repr=False)
    """Block to the length of the tuple that it returns; 0 for a bare tensor."""
    _foldable: tuple[tuple[str, str], ...] = field(repr=False)
    """Layers, each with the batch norm that alone reads its output."""

    @cached_property
    def _slots(self) -> dict[str, dict[tuple[str, int], None]]:
        """Group to the parameters and dimensions that its units lie along."""
        return {g.name: dict.fromkeys((part.parameter, part.dim) for part in g.slices) for g in self.groups}

    @property
    def form(self) -> str:
        """``modules``, or ``graph`` where pruned networks are exported graphs."""
        return "graph" if self._template else "modules"

    def tensors(self, network: nn.Module) -> dict[str, Tensor]:
        """The parameters and buffers of a network, by all of their names, that its pruned copies have, too."""
        both = (network.named_parameters(remove_duplicate=False), network.named_buffers(remove_duplicate=False))
        named = itertools.chain(*both)
        if self._template is None:
            return dict(named)
        return {name: tensor for name, tensor in named if name in self._template.tensors}

    def select(self, scores: Mapping[str, Tensor], cut_units: Mapping[str, int]) -> dict[str, Tensor]:
        """The units that stay: the best ones; of equal ones the first.

        Args:
            scores: Importance of each unit, (U,) per group.
            cut_units: Units that go, per group.

        Returns:
            What `plan` takes, for every group.
        """
        kept = {
            group.name: _best(scores[group.name].cpu(), group.units - cut_units.get(group.name, 0))
            for group in self.groups
            if group.name in scores and not group.masked
        }
        left = self._kept_indices(kept)[0]
        gone = tuple(f"{name}." for name in self.bypassed(kept))
        for group in self.groups:
            if group.name in scores and group.masked:
                count = 0 if group.masked.startswith(gone) else cut_units.get(group.name, 0)
                shape, indices = self._masked[group.name], left.get(group.masked, {})
                kept[group.name] = chosen(group, scores[group.name], count, shape, indices)
        return kept

    def bypassed(self, kept: Mapping[str, Tensor]) -> dict[str, int]:
        """The blocks that are left out, to the length of the tuple that each returned."""
        return {
            name: self._blocks[name]
            for group in self.groups
            if group.owned and group.name in kept
            for unit, name in enumerate(group.layers)
            if not (kept[group.name] == unit).any()
        }

    def plan(self, network: nn.Module, kept: Mapping[str, Tensor]) -> Plan:
        """What a cut changes.

        Args:
            network: The dense network.
            kept: Per group the units that stay: their indices; of weights and kernels a bool for every unit. A group
                left out stays whole.

        Raises:
            StructureError: A group is unknown or would lose every unit.
        """
        if unknown := set(kept) - {group.name for group in self.groups}:
            raise StructureError(f"there is no group {sorted(unknown)[0]!r}")
        tensors, keep = self._kept_indices(kept)
        attributes = self._attributes(network, tensors)
        for (module, attribute), units in self._sizes.items():
            size = int(keep[units].sum())
            if size != len(units):
                attributes.setdefault(module, {})[attribute] = size
        masks = {
            group.masked: expanded(group, kept[group.name].cpu(), self._masked[group.name])
            for group in self.groups
            if group.masked and group.name in kept and not kept[group.name].all()
        }
        return Plan(tensors, attributes, masks, self.bypassed(kept))

    def _kept_indices(self, kept: Mapping[str, Tensor]) -> tuple[dict[str, dict[int, Tensor]], Tensor]:
        """Parameter to dimension to the indices that stay; and whether each unit of all sliced groups stays."""
        sliced = [group for group in self.groups if group.slices]
        keep = torch.ones(sum(group.units for group in sliced) + 1, dtype=torch.bool)
        offset, changed = 0, dict[tuple[str, int], None]()
        for group in self.groups:
            if group.name in kept and not group.masked and not len(kept[group.name]):
                raise StructureError(f"{group.name} would lose all of its {group.units} units")
        for group in sliced:
            if group.name in kept and len(kept[group.name]) < group.units:
                keep[offset : offset + group.units] = False
                keep[offset + kept[group.name].cpu()] = True
                changed.update(self._slots[group.name])
            offset += group.units
        tensors: dict[str, dict[int, Tensor]] = {}
        indices: dict[int, Tensor] = {}
        for name, dim in changed:
            units = self._units[name, dim]
            index = indices.get(id(units))
            if index is None:
                # Index -1, no unit, reads the last entry, which is always kept.
                index = indices[id(units)] = keep[units].nonzero().view(-1)
            tensors.setdefault(name, {})[dim] = index
        return tensors, keep

    def _attributes(self, network: nn.Module, kept: Mapping[str, Mapping[int, Tensor]]) -> dict[str, dict[str, object]]:
        changes: dict[str, dict[str, object]] = {}
        for owner in dict.fromkeys(owner for name in kept for owner in self._owners[name]):
            shapes: dict[str, Sequence[int]] = {}
            for local, (name, dense) in self._shapes[owner].items():
                dims = kept.get(name)
                if dims is None:
                    shapes[local] = dense
                else:
                    shapes[local] = shape = list(dense)
                    for dim, index in dims.items():
                        shape[dim] = index.shape[0]
            if new := resized(module_at(network, owner), shapes, owner in self._whole_groups):
                changes[owner] = new
        return changes

    def cut(self, network: nn.Module, kept: Mapping[str, Tensor], *, share: bool = False) -> nn.Module:
        """A smaller copy of the dense network; a `GraphNetwork` where its code cannot be adjusted.

        Args:
            network: The dense network.
            kept: See `plan`.
            share: Let modules that stay as they are be the network's own, where pruned networks are no graphs.
        """
        plan = self.plan(network, kept)
        small = apply(network, plan, share=share and self._template is None)
        if self._template is None:
            return small
        _, keep = self._kept_indices(kept)
        return self._template.network(small, lambda labels: int(keep[self._unit_of_atom[labels]].sum()), plan.bypassed)

    def folded(self, network: nn.Module) -> nn.Module:
        """What predicts the same in fewer steps: batch norms are part of the layers before them.

        Args:
            network: The dense network or a cut of it, in ``eval()``.

        Returns:
            A network that shares the rest with the given one; that one itself where no batch norm can be folded.
        """
        return folded(network, self._foldable)

    def masked(self, network: nn.Module, kept: Mapping[str, Tensor]) -> nn.Module:
        """The dense-sized reference that `cut` equals: every parameter entry of a cut unit is zero."""
        _, keep = self._kept_indices(kept)
        averages = {place: (dim, keep[units]) for place, (dim, units) in self._averages.items()}
        return Masked(network, self.plan(network, kept), {k: a for k, a in averages.items() if not a[1].all()})

    def costs(self, cut_units: Mapping[str, int] | None = None, bypassed: Collection[str] = ()) -> Costs:
        """Exact costs after every group lost so many units, by arithmetic.

        Args:
            cut_units: Units that go, per group. Which blocks go, and not only how many, makes a difference:
            bypassed: Their names.
        """
        return self._costs(cut_units or {}, bypassed)

    @cached_property
    def cost_table(self) -> CostTable:
        """The same arithmetic for many candidates at once, groups in the order of ``groups``."""
        return cost_table(self._costs, self.groups)

    def lost(self, group: Group, cut_units: Mapping[str, int], bypassed: Collection[str] = ()) -> int:
        """How many units a group loses: of weights and kernels a share of those that other cuts leave."""
        return self._costs.zeroed(group, cut_units, bypassed) if group.masked else cut_units.get(group.name, 0)


def _best(scores: Tensor, count: int) -> Tensor:
    """Sorted indices of the ``count`` highest scores; of equal ones the first."""
    return scores.argsort(descending=True, stable=True)[:count].sort().values


@dataclass(frozen=True)
class Others:
    """What is cut besides channels."""

    groups: tuple[Group, ...] = ()
    uncut: tuple[Uncut, ...] = ()
    blocks: Mapping[str, int] = field(default_factory=dict)
    """Block to the length of the tuple that it returns; 0 for a bare tensor."""
    channels: bool = True
    """Whether channels are offered at all."""


@dataclass(frozen=True)
class Reading:
    """How a model is read: what labels found in it, and what of that is cut."""

    found: Labeling
    refused: Mapping[str, str] = field(default_factory=dict)
    """Groups that are not offered, name to reason."""
    sizes: Mapping[tuple[str, str], Tensor] = field(default_factory=dict)
    """Module and attribute that holds a size, to the labels of the dimension that it counts."""
    template: Template | None = None
    """The exported graph, where that is cut."""


def build(network: nn.Module, traced: Traced, read: Reading, others: Others | None = None) -> Structure:
    """Structure of a labelled graph.

    Args:
        network: The dense network.
        traced: Its graph.
        read: What was found in it.
        others: What else can be cut; nothing if None.
    """
    found, refused, example = read.found, read.refused, traced.example
    assert example is not None  # noqa: S101  a network is traced with one
    others = others or Others()
    groups, uncut = find_groups(found, traced.tensors) if others.channels else ((), ())
    refusals = tuple(Uncut(layer, g.units, refused[g.name]) for g in groups if g.name in refused for layer in g.layers)
    offered = tuple(group for group in groups if group.name not in refused)
    first = {(span.tensor, span.dim): (span.first, span.size) for span in found.ranges}
    unit_of_root = torch.full((found.atoms,), -1)
    offset = 0
    for group in offered:
        part = group.slices[0]
        roots = found.roots[first[part.parameter, part.dim][0] + part.index[:, 0]]
        unit_of_root[roots] = torch.arange(offset, offset + group.units)
        offset += group.units
    unit_of_atom = unit_of_root[found.roots]
    units: dict[tuple[str, int], Tensor] = {}
    shared: dict[bytes, Tensor] = {}
    for key in dict.fromkeys((part.parameter, part.dim) for group in offered for part in group.slices):
        start, size = first[key]
        of_key = unit_of_atom[start : start + size].clone()
        units[key] = shared.setdefault(of_key.numpy().tobytes(), of_key)
    aliases = _aliases(network, {name for name, _ in units})
    owners = {name: tuple(dict.fromkeys(a.rpartition(".")[0] for a in every)) for name, every in aliases.items()}
    only = None if read.template is None else read.template.tensors
    return Structure(
        groups=offered + others.groups,
        uncut=uncut + refusals + others.uncut,
        layers=tuple(dict.fromkeys(layer_of(name) for name, _ in network.named_parameters())),
        _costs=cost_model(network, offered + others.groups, found, unit_of_atom, traced.batch, only),
        _whole_groups=frozenset(found.whole_groups),
        _units=units,
        _shapes=_shapes(network, aliases),
        _owners=owners,
        _sizes={key: unit_of_atom[labels] for key, labels in read.sizes.items()},
        example=example,
        _template=read.template,
        _unit_of_atom=unit_of_atom if read.template else torch.zeros(0),
        _averages={
            (a.module, a.operator, a.call): (a.dim, unit_of_atom[a.labels])
            for a in found.averages
            if bool((unit_of_atom[a.labels] >= 0).any())
        },
        _masked={g.name: traced.tensors[g.masked].shape for g in others.groups if g.masked},
        _blocks=others.blocks,
        _foldable=() if read.template else foldable(network, traced),
    )


def _shapes(network: nn.Module, aliases: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, tuple[str, torch.Size]]]:
    canonical = {alias: name for name, every in aliases.items() for alias in every}
    result: dict[str, dict[str, tuple[str, torch.Size]]] = {}
    for owner in {name.rpartition(".")[0] for name in canonical}:
        module = network.get_submodule(owner)
        own = dict([*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)])
        names = {name: f"{owner}.{name}" if owner else name for name in telling_sizes(own)}
        result[owner] = {name: (canonical.get(full, full), own[name].shape) for name, full in names.items()}
    return result


def _aliases(network: nn.Module, names: set[str]) -> dict[str, tuple[str, ...]]:
    by_tensor: dict[int, list[str]] = {}
    every = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    for name, tensor in every:
        by_tensor.setdefault(id(tensor), []).append(name)
    return {name: tuple(by_tensor[id(tensor)]) for name, tensor in every if name in names}
