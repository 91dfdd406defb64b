"""Propose, then verify: what is offered was cut once, and the result compared with the masked original.

Refusing is always safe, so that of many like groups (the heads of a hundred layers) a few speak for all.
"""

from __future__ import annotations

import itertools
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from autoprune.plugin import Group, Inputs
from autoprune.structure.building import Findings, build
from autoprune.structure.graph.labeling import Labeling
from autoprune.structure.graph.trace import Traced, evaluating
from autoprune.structure.structure import Structure
from autoprune.structure.surgery.free_sizes import resized
from autoprune.structure.surgery.template import Template
from autoprune.structure.verify.attributes import attributes_read
from autoprune.structure.verify.comparison import deviation, precise
from autoprune.structure.verify.readings import Reader, Reading, candidates, pattern_of
from autoprune.structure.verify.training import Trained

Reasons = dict[str, str]
"""Group to why it is refused."""


def verified(network: nn.Module, inputs: Inputs, traced: Traced, template: Template | None = None) -> Findings:
    """Which groups verify, and why the others do not; in the exported graph where its template is given.

    All groups are cut at once first. Only if that fails are they tried apart, and before a group is given up: other
    readings of the attributes that may hold a size (with four heads of size four, which is it that changes?), and
    where the graph spreads units over two dimensions, the other way to cut them.
    """
    network, inputs = precise(network, inputs)
    with evaluating(network):
        return _Verifier(network, inputs, traced, template).best()


def right_at_other_sizes(network: nn.Module, inputs: Inputs, traced: Traced, findings: Findings) -> bool:
    """Whether cut graphs give what the masked network does for inputs of the sizes that the whole graph may have."""
    network, inputs = precise(network, inputs)
    structure = build(network, traced, findings)
    if not structure.groups or structure.sizes is None:
        return True
    with evaluating(network):
        taken = ((other, _outputs(network, other)) for other in resized(inputs, structure.sizes))
        return all(
            dense is None or deviation(structure, network, other, structure.groups, dense, draw=1) is None
            for other, dense in taken
        )


def _outputs(network: nn.Module, inputs: Inputs) -> Any:
    """What a network gives; None where it takes no such inputs."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's own
        try:
            return inputs.feed(network)
        except Exception:  # noqa: BLE001  the model's own code may raise anything on sizes that it does not take
            return None


class _Verifier:
    def __init__(self, network: nn.Module, inputs: Inputs, traced: Traced, template: Template | None) -> None:
        self._network = network
        self._inputs = inputs
        self._traced = traced
        self._reader = Reader(network, traced, template)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the model's own
            self._dense = inputs.feed(network)
            self._trained = Trained.of(network, inputs, traced.read)

    def best(self) -> Findings:
        reading, found = Reading(), self._reader.labelled({})
        best, offered = self._attempt(self._reader.read(found, reading))
        for other in self._reader.others(found) if best.refused else ():
            merged = reading.but(other)
            again = self._reader.labelled(merged.choices) if other.choices else found
            findings = self._reader.read(again, merged)
            if not self._promises(findings, best):
                continue
            attempt, units = self._attempt(findings)
            if units > offered:
                best, offered, reading, found = attempt, units, merged, again
            if not best.refused:
                break
        return self._needed(best)

    def _needed(self, best: Findings) -> Findings:
        """The same without attributes that need not change.

        Some are as large as a size by chance: a longest sequence that is as long as a layer is wide would be shorter
        otherwise, which the example need not show. A size that is wrongly left mostly raises; a number that is wrongly
        changed is silent.
        """
        if not best.sizes:
            return best
        read = {_kind(each) for each in attributes_read(self._network, self._inputs, best.sizes)}
        needed = replace(best, sizes={each: counted for each, counted in best.sizes.items() if _kind(each) in read})
        for kind in sorted(read):
            fewer = replace(needed, sizes={each: n for each, n in needed.sizes.items() if _kind(each) != kind})
            if self._right(fewer, draw=1):
                needed = fewer
        return needed if needed.sizes == best.sizes or self._right(needed, draw=0) else best

    def _right(self, findings: Findings, draw: int) -> bool:
        """Whether all that is offered verifies."""
        structure = self._build(findings, dict(findings.refused))
        return self._deviation(structure, structure.groups, draw) is None

    def _promises(self, findings: Findings, best: Findings) -> bool:
        """Whether one of each kind of refused group would verify now."""
        structure = self._build(findings, {})
        kinds: dict[str, Group] = {}
        for group in structure.groups:
            if group.name in best.refused and group.units > 1:
                kinds.setdefault(pattern_of(group.name), group)
        return any(self._deviation(structure, [group]) is None for group in kinds.values())

    def _build(self, findings: Findings, refused: Reasons) -> Structure:
        return build(self._network, self._traced, replace(findings, refused=refused))

    def _attempt(self, findings: Findings) -> tuple[Findings, int]:
        """What of it verifies, and how many units that are."""
        proposed = self._build(findings, {})
        refused = {g.name: _one_unit(g, findings.labeling) for g in proposed.groups if g.units < 2}
        structure = self._build(findings, refused) if refused else proposed
        while structure.groups:
            everything = list(structure.groups)
            draws = [(everything, 0), (everything, 1), *((p, 0) for p in self._apart(structure, findings.labeling))]
            for groups, draw in draws:
                if (reason := self._deviation(structure, groups, draw)) is not None:
                    failing = self._failing(structure, groups, reason, draw)
                    failing = failing or self._clashing(structure, groups, draw)
                    refused |= failing
                    structure = self._build(findings, refused)
                    break
            else:
                break
        return replace(findings, refused=refused), sum(group.units for group in structure.groups)

    def _apart(self, structure: Structure, found: Labeling) -> list[list[Group]]:
        """Sets of groups such that any two whose sizes one attribute may hold are apart in some.

        An attribute that is read off the wrong one of two groups is right as long as both lose as many units.
        """
        owner = torch.full((found.atoms,), -1)
        first = {(span.tensor, span.dim): span.first for span in found.ranges}
        for number, group in enumerate(structure.groups):
            for part in group.slices:
                owner[first[part.parameter, part.dim] + part.index] = number
        rivals: dict[int, set[int]] = defaultdict(set)
        for counted in candidates(self._network, found).values():
            owners = {number for labels in counted for number in owner[labels].tolist() if number >= 0}
            for number in owners:
                rivals[number] |= owners - {number}
        colours: dict[int, int] = {}
        for number in sorted(rivals):
            taken = {colours[rival] for rival in rivals[number] if rival in colours}
            colours[number] = next(colour for colour in itertools.count() if colour not in taken)
        bits = max(colours.values(), default=0).bit_length()
        return [
            [group for n, group in enumerate(structure.groups) if n not in colours or colours[n] >> bit & 1 == side]
            for bit in range(bits)
            for side in (0, 1)
        ]

    def _failing(self, structure: Structure, groups: Sequence[Group], reason: str, draw: int) -> Reasons:
        """Groups that fail by themselves, of some that fail for that reason."""
        if len(groups) == 1:
            return {groups[0].name: reason}
        failing: Reasons = {}
        parts = _parts(groups)
        for number, part in enumerate(parts):
            if (why := self._deviation(structure, part, draw)) is not None:
                failing |= self._failing(structure, part, why, draw)
            # Two of a kind fail: so will the others.
            if number == 1 and len(part) == 1 and len(failing) == 2 and len(set(failing.values())) == 1:
                return failing | {group.name: reason for rest in parts[2:] for group in rest}
        return failing

    def _clashing(self, structure: Structure, groups: Sequence[Group], draw: int) -> Reasons:
        """Groups that fail only together with others."""
        together: list[Group] = []
        refused: Reasons = {}
        for group in groups:
            reason = self._deviation(structure, [*together, group], draw)
            if reason is None:
                together.append(group)
            else:
                refused[group.name] = f"together with other groups: {reason}"
        return refused

    def _deviation(self, structure: Structure, groups: Sequence[Group], draw: int = 0) -> str | None:
        return deviation(structure, self._network, self._inputs, groups, self._dense, draw, self._trained)


def _kind(attribute: tuple[str, str]) -> tuple[str, str]:
    """What it has in common with that of like modules."""
    module, name = attribute
    return pattern_of(module), name


def _one_unit(group: Group, found: Labeling) -> str:
    """Why a group has no more units than one."""
    (part, *_) = group.slices
    first = next(span.first for span in found.ranges if (span.tensor, span.dim) == (part.parameter, part.dim))
    atoms = first + part.index.flatten()
    place = found.ties.binding(atoms, found.atoms)
    return f"its {len(atoms)} units all go together: {place or 'several operators'} {'ties' if place else 'tie'} them"


def _parts(groups: Sequence[Group]) -> list[list[Group]]:
    """By kind; of one kind alone, one by one."""
    kinds: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        kinds[pattern_of(group.name)].append(group)
    if len(kinds) > 1:
        return list(kinds.values())
    return [[group] for group in groups]
