"""Propose, then verify: what is offered was cut once, and the result compared with the masked original.

Refusing is always safe, so that of many like groups (the heads of a hundred layers) a few speak for all.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.plugin import Group, Inputs
from autoprune.structure.graph.labeler import Labeler
from autoprune.structure.graph.labeling import Labeling
from autoprune.structure.graph.trace import Traced, evaluating, module_of
from autoprune.structure.groups.channels import Uncut
from autoprune.structure.structure import Reading, Structure, build
from autoprune.structure.surgery.cut import Plan, apply, keeps_sizes
from autoprune.structure.surgery.exported import Template
from autoprune.structure.surgery.rewrite import GraphLabeler, find_edits
from autoprune.structure.verify.reference import Masked

TOLERANCE = 2e-5
"""Largest deviation from the masked original, relative to the largest output (float32). Other inputs may deviate some
times more than the example, and are to stay below 1e-4."""

_SHARE, _NOISE = 1e-2, 5e-6
"""Largest deviation relative to what the cut changes, beyond the noise of float32 relative to the largest output."""

Reasons = dict[str, str]
"""Group to why it is refused."""


@dataclass(frozen=True)
class _Ways:
    """Ways to read the model's code: what an attribute counts, which of two dimensions carries units."""

    attributes: Mapping[str, str]
    """Attribute to ``last`` or ``none``; ``first`` if it has no reading. See `_sizes`."""
    choices: Mapping[str, int]
    """Node to the way it spreads units over dimensions."""


def verified(network: nn.Module, inputs: Inputs, traced: Traced, template: Template | None = None) -> Reading:
    """Which groups verify, and why the others do not; in the exported graph where its template is given.

    All groups are cut at once first. Only if that fails are they tried apart, and before a group is given up: other
    readings of the attributes that may hold a size (with four heads of size four, which is it that changes?), and
    where the graph spreads units over two dimensions, the other way to cut them.
    """
    with evaluating(network):
        return _Verifier(network, inputs, traced, template).best()


@dataclass(frozen=True)
class _Labelled:
    """What labels find, and where the graph counts them if that is cut."""

    labeling: Labeling
    template: Template | None


class _Verifier:
    def __init__(self, network: nn.Module, inputs: Inputs, traced: Traced, template: Template | None) -> None:
        self._template = template
        self._network = network
        self._inputs = inputs
        self._traced = traced
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the model's own
            self._dense = inputs.feed(network)
        self._modules = {node.name: module_of(node) for node in traced.graph.graph.nodes}

    def best(self) -> Reading:
        reading = _Ways({}, {})
        found = self._label({})
        best, refused = self._attempt(found, reading)
        for other in self._others(found) if refused else ():
            merged = _Ways({**reading.attributes, **other.attributes}, {**reading.choices, **other.choices})
            labelled = self._label(merged.choices) if other.choices else found
            if not self._promises(labelled, merged, refused):
                continue
            structure, failing = self._attempt(labelled, merged)
            if _offered(structure) > _offered(best):
                best, refused, reading, found = structure, failing, merged, labelled
            if not refused:
                break
        sizes = self._sizes(found, reading)
        return Reading(found.labeling, refused, sizes, found.template)

    def _label(self, choices: Mapping[str, int]) -> _Labelled:
        if self._template is None:
            return _Labelled(Labeler(self._traced, choices).label(), None)
        labeler = GraphLabeler(self._traced, choices)
        labeling = labeler.label()
        return _Labelled(labeling, self._template.with_edits(find_edits(labeler)))

    def _sizes(self, found: _Labelled, reading: _Ways) -> Mapping[tuple[str, str], Tensor]:
        """Attributes matter where the modules' code runs."""
        return {} if found.template else _sizes(self._network, found.labeling, reading.attributes)

    def _others(self, found: _Labelled) -> Iterable[_Ways]:
        attributes = () if found.template else _candidates(self._network, found.labeling)
        for attribute in sorted({attribute for _, attribute in attributes}):
            for read in ("last", "none"):
                yield _Ways({attribute: read}, {})
        # Like modules are written alike, so the nth such node of each is read alike.
        alike: dict[tuple[str, int], list[str]] = defaultdict(list)
        count: dict[str, int] = defaultdict(int)
        splits = found.labeling.splits
        for node in splits:
            module = self._modules[node]
            alike[_pattern(module), count[module]].append(node)
            count[module] += 1
        for nodes in alike.values():
            for way in range(1, max(splits[node] for node in nodes)):
                yield _Ways({}, {node: way for node in nodes if way < splits[node]})

    def _promises(self, found: _Labelled, reading: _Ways, refused: Reasons) -> bool:
        """Whether one of each kind of refused group would verify now."""
        structure = self._build(found, {}, reading)
        kinds: dict[str, Group] = {}
        for group in structure.groups:
            if group.name in refused and group.units > 1:
                kinds.setdefault(_pattern(group.name), group)
        return any(self._deviation(structure, [group]) is None for group in kinds.values())

    def _build(self, found: _Labelled, refused: Reasons, reading: _Ways) -> Structure:
        read = Reading(found.labeling, refused, self._sizes(found, reading), found.template)
        return build(self._network, self._traced, read)

    def _attempt(self, found: _Labelled, reading: _Ways) -> tuple[Structure, Reasons]:
        proposed = self._build(found, {}, reading)
        refused = {g.name: "its layer has one unit" for g in proposed.groups if g.units < 2}
        structure = self._build(found, refused, reading) if refused else proposed
        while structure.groups:
            everything = list(structure.groups)
            draws = [(everything, 0), (everything, 1), *((part, 0) for part in self._apart(structure, found.labeling))]
            for groups, draw in draws:
                if (reason := self._deviation(structure, groups, draw)) is not None:
                    failing = self._failing(structure, groups, reason, draw)
                    failing = failing or self._clashing(structure, groups, draw)
                    refused |= failing
                    structure = self._build(found, refused, reading)
                    break
            else:
                break
        return structure, refused

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
        for candidates in _candidates(self._network, found).values():
            owners = {number for labels in candidates for number in owner[labels].tolist() if number >= 0}
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
        return deviation(structure, self._network, self._inputs, groups, self._dense, draw)


def verified_blocks(
    network: nn.Module, inputs: Inputs, blocks: Mapping[str, int]
) -> tuple[dict[str, int], tuple[Uncut, ...]]:
    """Blocks without which the network runs and does what a hook in their place makes of it.

    Args:
        network: The dense network.
        inputs: Its example inputs.
        blocks: Block to the length of the tuple that it returns; 0 for a bare tensor.
    """
    with evaluating(network):
        if not blocks or _without(network, inputs, blocks) is None:
            return dict(blocks), ()
        reasons = {name: _without(network, inputs, {name: outputs}) for name, outputs in blocks.items()}
    return (
        {name: outputs for name, outputs in blocks.items() if reasons[name] is None},
        tuple(Uncut(name, 1, reason) for name, reason in reasons.items() if reason is not None),
    )


def _without(network: nn.Module, inputs: Inputs, blocks: Mapping[str, int]) -> str | None:
    """Why those blocks cannot be left out; None when they can."""
    plan = Plan({}, bypassed=blocks)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's own
        try:
            return difference(
                inputs.feed(Masked(network, plan)), inputs.feed(apply(network, plan)), inputs.feed(network)
            )
        except Exception as error:  # noqa: BLE001  the model's own code may raise anything
            return f"the model does not run without it: {type(error).__name__}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def _pattern(name: str) -> str:
    """What the names of like layers have in common."""
    return re.sub(r"\d+", "*", name)


def _parts(groups: Sequence[Group]) -> list[list[Group]]:
    """By kind; of one kind alone, one by one."""
    kinds: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        kinds[_pattern(group.name)].append(group)
    if len(kinds) > 1:
        return list(kinds.values())
    return [[group] for group in groups]


def _sizes(network: nn.Module, found: Labeling, readings: Mapping[str, str]) -> dict[tuple[str, str], Tensor]:
    """Integer attributes of modules whose code reshapes or splits units, and what they count.

    Where several sizes are equal, an attribute's reading tells which it is: the first in the module's code (if it has
    no reading), the ``last``, or ``none``.
    """
    return {
        (module, attribute): labels[-1 if readings.get(attribute) == "last" else 0]
        for (module, attribute), labels in _candidates(network, found).items()
        if readings.get(attribute) != "none"
    }


def _candidates(network: nn.Module, found: Labeling) -> dict[tuple[str, str], list[Tensor]]:
    """Integer attributes of modules, and the labels of every dimension of units there that has as many entries."""
    candidates: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
    for size in found.sizes:
        module = network.get_submodule(size.module)
        if not keeps_sizes(module):
            for attribute, value in vars(module).items():
                if type(value) is int and value == len(size.labels):
                    candidates[size.module, attribute].append(size.labels)
    return candidates


def _offered(structure: Structure) -> int:
    return sum(group.units for group in structure.groups)


def deviation(
    structure: Structure,
    network: nn.Module,
    inputs: Inputs,
    groups: Sequence[Group],
    dense: Any,
    draw: int = 0,
) -> str | None:
    """Why cutting some units of those groups differs from the masked original; None when it does not.

    Args:
        structure: Has those groups.
        network: The dense network.
        inputs: Its example inputs.
        groups: What is cut.
        dense: The dense network's outputs.
        draw: 0 or 1, which cut other units and shares: what agrees by luck once rarely does twice.
    """
    generator = torch.Generator().manual_seed(draw)
    kept = {}
    for number, group in enumerate(groups):
        # Other shares of each group: what should be tied, and is not, is cut differently.
        share = (2, 3, 4)[(number + draw) % 3] / 6
        stays = max(1, group.units - max(1, round(group.units * share)))
        kept[group.name] = torch.randperm(group.units, generator=generator)[:stays].sort().values
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's own
        try:
            # One after the other: there never are more than two models in memory.
            masked = inputs.feed(structure.masked(network, kept))
            small = inputs.feed(structure.cut(network, kept))
        except Exception as error:  # noqa: BLE001  the model's own code may raise anything on sizes it cannot have
            return f"the cut model does not run: {type(error).__name__}: {_first_line(error)}"
    return difference(masked, small, dense)


def difference(expected: Any, actual: Any, dense: Any) -> str | None:
    """Why a cut model's outputs are not equal to the masked one's; None when they are.

    Args:
        expected: Tensors, or containers of them.
        actual: What should equal them, within `TOLERANCE`.
        dense: The dense model's: a cut that hardly shows in the outputs must come the nearer.
    """
    left, right, whole = (
        [leaf for leaf in pytree.tree_leaves(each) if isinstance(leaf, Tensor)] for each in (expected, actual, dense)
    )
    if [leaf.shape for leaf in left] != [leaf.shape for leaf in right]:
        return "the cut model's outputs have other shapes"
    for a, b, c in zip(left, right, whole, strict=True):
        scale, worst, effect = (
            max(1.0, _largest(a)),
            _largest(a.double() - b.double()),
            _largest(a.double() - c.double()),
        )
        if not worst <= min(TOLERANCE * scale, _SHARE * effect + _NOISE * scale):
            return f"the cut model differs from the masked one by {worst:.2g} at outputs of size {scale:.2g}"
    return None


def _largest(x: Tensor) -> float:
    return float(x.abs().max()) if x.numel() else 0.0
