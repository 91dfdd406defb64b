"""Ties to units, units to groups."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from autoprune.plugin import Group, Role, Slice
from autoprune.structure.graph.labeling import AtomRange, Labeling

_CODES: dict[Role, int] = {"vector": 1, "input": 2, "output": 3}
_ROLES: tuple[Role, ...] = ("vector", "vector", "input", "output")


@dataclass(frozen=True)
class Uncut:
    """Units of a layer that stay, and why."""

    layer: str
    units: int
    reason: str


def layer_of(tensor: str) -> str:
    """Name of the layer that owns a parameter."""
    return tensor.rpartition(".")[0] or tensor


def find_groups(found: Labeling, tensors: dict[str, Tensor]) -> tuple[tuple[Group, ...], tuple[Uncut, ...]]:
    """Groups of interchangeable units, in the order of the graph, and what stays."""
    root = found.roots
    roles = torch.zeros(found.atoms, dtype=torch.int8)
    for role, code in _CODES.items():
        for atoms in found.roles[role]:
            roles[atoms] = torch.maximum(roles[atoms], torch.tensor(code, dtype=torch.int8))
    pinned = torch.zeros(found.atoms, dtype=torch.bool)
    pinned[0] = True
    for pin in found.ties.pins:
        pinned[root[pin.atoms]] = True
    makes = torch.zeros(found.atoms, dtype=torch.bool)
    makes[root[roles == _CODES["output"]]] = True
    free = makes[root] & ~pinned[root]
    order = _graph_order(found)
    groups = _groups(found, root, roles, free, tensors, order)
    return groups, _uncut(found, root, roles, free, order)


def _graph_order(found: Labeling) -> dict[int, int]:
    """Position in the graph of every atom range that makes units."""
    starts = torch.tensor([r.first for r in found.ranges] or [0])
    order: dict[int, int] = {}
    for atoms in found.roles["output"]:
        used = atoms[atoms != 0]
        for index in torch.unique(torch.searchsorted(starts, used, right=True) - 1).tolist():
            order.setdefault(index, len(order))
    return order


def _groups(
    found: Labeling, root: Tensor, roles: Tensor, free: Tensor, tensors: dict[str, Tensor], order: dict[int, int]
) -> tuple[Group, ...]:
    # One unit per root: its atoms, by range.
    units: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, span in enumerate(found.ranges):
        atoms = torch.arange(span.first, span.first + span.size)
        mine = atoms[free[atoms]]
        for atom, unit in zip(mine.tolist(), root[mine].tolist(), strict=True):
            units[unit][number].append(atom - span.first)
    by_footprint: dict[tuple[tuple[int, int], ...], list[dict[int, list[int]]]] = defaultdict(list)
    for footprint in units.values():
        by_footprint[tuple(sorted((number, len(index)) for number, index in footprint.items()))].append(footprint)

    def position(item: tuple[tuple[tuple[int, int], ...], list[dict[int, list[int]]]]) -> tuple[int, int]:
        first = min((order[number], number) for number, _ in item[0] if number in order)
        return first[0], item[1][0][first[1]][0]

    kinds = {
        unit: kind
        for kind, labels in found.kinds.items()
        for atoms in labels
        for unit in torch.unique(root[atoms]).tolist()
    }
    groups: list[Group] = []
    taken: dict[str, int] = defaultdict(int)
    for footprint_key, members in sorted(by_footprint.items(), key=position):
        slices = []
        for number, _ in footprint_key:
            span = found.ranges[number]
            if span.virtual:
                continue
            index = torch.tensor([unit[number] for unit in members])
            slices.append(Slice(span.tensor, span.dim, index, _role(roles, span, index)))
        makers = sorted((order[n], found.ranges[n].tensor) for n, _ in footprint_key if n in order)
        layers = tuple(dict.fromkeys(layer_of(tensor) for _, tensor in makers))
        taken[layers[0]] += 1
        suffix = f"#{taken[layers[0]]}" if taken[layers[0]] > 1 else ""
        number, entries = next(iter(members[0].items()))
        unit = int(root[found.ranges[number].first + entries[0]])
        granularity = kinds.get(unit, "channel" if tensors[makers[0][1]].ndim > 2 else "neuron")
        groups.append(Group(layers[0] + suffix, len(members), granularity, layers, tuple(slices)))
    return tuple(groups)


def _role(roles: Tensor, span: AtomRange, index: Tensor) -> Role:
    return _ROLES[int(roles[span.first + index].max())]


def _uncut(found: Labeling, root: Tensor, roles: Tensor, free: Tensor, order: dict[int, int]) -> tuple[Uncut, ...]:
    reasons: dict[int, str] = {}
    for pin in found.ties.pins:
        for component in torch.unique(root[pin.atoms]).tolist():
            reasons.setdefault(component, pin.reason)
    result: list[Uncut] = []
    for number in sorted(order, key=lambda n: order[n]):
        span = found.ranges[number]
        atoms = torch.arange(span.first, span.first + span.size)
        stay = atoms[~free[atoms] & (roles[atoms] == _CODES["output"])]
        counts: dict[str, int] = defaultdict(int)
        for component in root[stay].tolist():
            counts[reasons.get(component, "nothing reads them")] += 1
        result.extend(Uncut(layer_of(span.tensor), count, reason) for reason, count in counts.items())
    claimed = {layer_of(found.ranges[number].tensor) for number in order}
    for name, modules in found.unknown.items():
        result.extend(
            Uncut(module or "the model", 0, f"{name} has no rule: what it touches stays")
            for module in dict.fromkeys(modules)
            if module not in claimed
        )
    return tuple(result)
