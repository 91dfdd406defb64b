"""From what labels found in a graph to the structure of its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from autoprune.plugin import Group
from autoprune.structure.costs.model import cost_model
from autoprune.structure.graph.labeling import Labeling
from autoprune.structure.graph.trace import Traced
from autoprune.structure.groups.channels import Uncut, find_groups, layer_of
from autoprune.structure.groups.numbering import Numbering
from autoprune.structure.structure import Structure
from autoprune.structure.surgery.folding import foldable
from autoprune.structure.surgery.planner import Planner
from autoprune.structure.surgery.sizes import telling_sizes
from autoprune.structure.surgery.template import Template


@dataclass(frozen=True)
class Findings:
    """What labels found in a model, and what of that is cut."""

    labeling: Labeling
    refused: Mapping[str, str] = field(default_factory=dict)
    """Groups that are not offered, name to reason."""
    sizes: Mapping[tuple[str, str], Tensor] = field(default_factory=dict)
    """Module and attribute that holds a size, to the labels of the dimension that it counts."""
    template: Template | None = None
    """The exported graph, where that is cut."""


@dataclass(frozen=True)
class Others:
    """What is cut besides channels."""

    groups: tuple[Group, ...] = ()
    uncut: tuple[Uncut, ...] = ()
    blocks: Mapping[str, int] = field(default_factory=dict)
    """Block to the length of the tuple that it returns; 0 for a bare tensor."""
    channels: bool = True
    """Whether channels are offered at all."""


def build(network: nn.Module, traced: Traced, findings: Findings, others: Others | None = None) -> Structure:
    """Structure of a labelled graph.

    Args:
        network: The dense network.
        traced: Its graph.
        findings: What was found in it.
        others: What else can be cut; nothing if None.
    """
    found, refused, others = findings.labeling, findings.refused, others or Others()
    groups, uncut = find_groups(found, traced.tensors) if others.channels else ((), ())
    refusals = tuple(Uncut(layer, g.units, refused[g.name]) for g in groups if g.name in refused for layer in g.layers)
    offered = tuple(group for group in groups if group.name not in refused)
    unit_of_atom = _units_of_atoms(found, offered)
    every = offered + others.groups
    numbering = _numbering(found, every, unit_of_atom, traced, others.blocks)
    names = {name: traced.aliases[name] for name, _ in numbering.units}
    assert traced.example is not None  # noqa: S101  a network is traced with one
    template = findings.template
    return Structure(
        groups=every,
        uncut=uncut + refusals + others.uncut,
        layers=tuple(dict.fromkeys(layer_of(name) for name, _ in network.named_parameters())),
        example=traced.example,
        _numbering=numbering,
        _planner=Planner(
            numbering,
            names,
            _shapes(network, names),
            {holder: unit_of_atom[labels] for holder, labels in findings.sizes.items()},
            frozenset(found.whole_groups),
        ),
        _costs=cost_model(network, every, found, unit_of_atom, traced.batch, template.tensors if template else None),
        _averages={
            (a.module, a.operator, a.call): (a.dim, unit_of_atom[a.labels])
            for a in found.averages
            if bool((unit_of_atom[a.labels] >= 0).any())
        },
        _foldable=() if template else foldable(network, traced),
        _template=template.counting(unit_of_atom) if template else None,
    )


def _units_of_atoms(found: Labeling, offered: Sequence[Group]) -> Tensor:
    """Label to the number of its unit, over all groups in order; -1 where there is none. Of shape (atoms,)."""
    first = {(span.tensor, span.dim): span.first for span in found.ranges}
    unit_of_root = torch.full((found.atoms,), -1)
    number = 0
    for group in offered:
        part = group.slices[0]
        roots = found.roots[first[part.parameter, part.dim] + part.index[:, 0]]
        unit_of_root[roots] = torch.arange(number, number + group.units)
        number += group.units
    return unit_of_root[found.roots]


def _numbering(
    found: Labeling, groups: tuple[Group, ...], unit_of_atom: Tensor, traced: Traced, blocks: Mapping[str, int]
) -> Numbering:
    spans = {(span.tensor, span.dim): span for span in found.ranges}
    shared: dict[bytes, Tensor] = {}

    def once(units: Tensor) -> Tensor:
        return shared.setdefault(units.numpy().tobytes(), units)

    places = dict.fromkeys((part.parameter, part.dim) for group in groups for part in group.slices)
    units = {
        place: once(unit_of_atom[span.first : span.first + span.size].clone())
        for place in places
        for span in (spans[place],)
    }
    outputs = {layer: once(unit_of_atom[labels]) for layer, labels in found.outputs.items()}
    masked = {group.name: traced.tensors[group.masked].shape for group in groups if group.masked}
    return Numbering(groups, units, outputs, masked, blocks)


def _shapes(network: nn.Module, aliases: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, tuple[str, torch.Size]]]:
    canonical = {alias: name for name, every in aliases.items() for alias in every}
    result: dict[str, dict[str, tuple[str, torch.Size]]] = {}
    for owner in {name.rpartition(".")[0] for name in canonical}:
        module = network.get_submodule(owner)
        own = dict([*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)])
        names = {name: f"{owner}.{name}" if owner else name for name in telling_sizes(own)}
        result[owner] = {name: (canonical.get(full, full), own[name].shape) for name, full in names.items()}
    return result
