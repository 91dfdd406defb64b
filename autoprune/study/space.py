"""The search space: what a proposal may choose, and which whole units its ratios come to."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from autoprune.errors import Mistake
from autoprune.plugin import Candidate, Component, Group, GroupSummary, Scorer, SearchedGroup, Strategy
from autoprune.plugin.results import Origin
from autoprune.spec import GroupRange, Spec
from autoprune.structure import Structure

C = TypeVar("C", bound=Component)
Params = dict[str, float | str]
Precision = Literal["float32", "bfloat16"]


class Proposal(BaseModel):
    """What a trial is asked to try."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    origin: Origin
    params: Params
    scorers: dict[str, str] = {}
    """Label of the scorer that ranks it, per group; of the first one where a group is missing."""
    rivals: tuple[tuple[float, ...], ...] = ()
    """Losses of the front's members as it is handed to an executor: what it must not be dominated by."""
    precision: Precision = "float32"
    """Of forward passes without gradients."""


@dataclass(frozen=True)
class Range:
    """A ratio that is searched."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class Choice:
    """A component that is searched."""

    name: str
    options: tuple[str, ...]


Parameter = Range | Choice


@dataclass(frozen=True)
class BoundedGroup:
    """A group and the bounds of its pruning ratio."""

    group: Group
    low: float
    high: float

    @property
    def cuts(self) -> tuple[int, int]:
        """Fewest and most units that go: whole steps of the group within the bounds, and at least one unit stays.

        Bounds that hold no whole number of steps between them give the nearest one.
        """
        units, step = self.group.units, self.group.step
        last = (units - 1) // step
        fewest = math.ceil(self.low * units / step - 1e-9)
        most = min(math.floor(self.high * units / step + 1e-9), last)
        if fewest > most:
            fewest = most = min(_nearest(self.low * units / step), last)
        return fewest * step, most * step

    @property
    def searched(self) -> bool:
        """Whether there is anything to choose."""
        fewest, most = self.cuts
        return fewest < most

    def cut(self, ratio: float) -> int:
        """The whole number of steps nearest to a ratio, in units, within the bounds."""
        fewest, most = self.cuts
        step = self.group.step
        return min(max(_nearest(ratio * self.group.units / step) * step, fewest), most)


@dataclass(frozen=True)
class Space:
    """Everything that a search chooses from."""

    groups: tuple[BoundedGroup, ...]
    scorers: Mapping[str, Scorer]
    """By the label that results show; of several, each group has the one that does least harm."""
    strategies: Mapping[str, Strategy]

    @property
    def cuttable(self) -> tuple[Group, ...]:
        """The groups that may lose units: all but those that the spec keeps."""
        return tuple(b.group for b in self.groups if b.cuts[1] > 0)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What a sampler chooses: a ratio per group with more than one possible cut, and components listed."""
        ranges = (Range(_ratio(b.group), b.low, b.high) for b in self.groups if b.searched)
        return *ranges, *(Choice(name, options) for name, options in self.choices.items())

    @property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """Kinds of components of which there are several, to their labels."""
        labels = tuple(self.strategies)
        return {"strategy": labels} if len(labels) > 1 else {}

    @property
    def searched(self) -> tuple[SearchedGroup, ...]:
        """The groups, as samplers see them."""
        return tuple(
            SearchedGroup(
                name=b.group.name,
                units=b.group.units,
                step=b.group.step,
                fewest=b.cuts[0],
                most=b.cuts[1],
                parameter=_ratio(b.group) if b.searched else None,
                low=b.low,
                high=b.high,
            )
            for b in self.groups
        )

    @property
    def summary(self) -> tuple[GroupSummary, ...]:
        """The groups, as observers see them."""
        return tuple(
            GroupSummary(
                name=b.group.name,
                units=b.group.units,
                granularity=b.group.granularity,
                layers=b.group.layers,
                low=b.low,
                high=b.high,
            )
            for b in self.groups
        )

    def first(self, ladder: int) -> list[tuple[Origin, Params]]:
        """What is tried before any sampler is asked: the dense model, then uniform ratios up to the largest bound.

        Args:
            ladder: Number of uniform ratios.
        """
        top = max(b.high for b in self.groups)
        steps: list[tuple[Origin, Params]] = [("ladder", self._uniform(top * k / ladder)) for k in range(1, ladder + 1)]
        return [("dense", self._uniform(0.0)), *steps]

    def asked(self, proposal: Proposal) -> dict[str, float]:
        """The ratio per group as proposed. The dense model is whole, whatever the bounds."""
        if proposal.origin == "dense":
            return {b.group.name: 0.0 for b in self.groups}
        return {b.group.name: float(proposal.params.get(_ratio(b.group), b.low)) for b in self.groups}

    def candidate(self, proposal: Proposal) -> Candidate:
        """The proposal in whole units."""
        asked = self.asked(proposal)
        dense = proposal.origin == "dense"
        cut = {b.group.name: 0 if dense else b.cut(asked[b.group.name]) for b in self.groups}
        return Candidate(
            ratios={b.group.name: cut[b.group.name] / b.group.units for b in self.groups},
            cut_units=cut,
        )

    def scorer(self, scorers: Mapping[str, str], group: str) -> str:
        """Label of the scorer that ranks a group, of those per group; of the first one where it is missing."""
        return scorers.get(group, next(iter(self.scorers)))

    def strategy(self, proposal: Proposal) -> str:
        """Label of its strategy."""
        return str(proposal.params.get("strategy", next(iter(self.strategies))))

    def _uniform(self, ratio: float) -> Params:
        params: Params = {}
        for parameter in self.parameters:
            if isinstance(parameter, Range):
                params[parameter.name] = min(max(ratio, parameter.low), parameter.high)
            else:
                params[parameter.name] = parameter.options[0]
        return params


def bounded(spec: Spec, structure: Structure) -> tuple[tuple[BoundedGroup, ...], list[Mistake]]:
    """The groups with their bounds, and what is wrong with the patterns that give them.

    A pattern speaks for a group if it matches its name or one of its layers; of several patterns the last counts.
    """
    default = spec.search_space.ratio
    bounds = {group.name: (default.low, default.high) for group in structure.groups}
    mistakes = []
    for pattern, own in spec.search_space.groups.items():
        path = ("search_space", "groups", pattern)
        matched = [g for g in structure.groups if any(fnmatchcase(name, pattern) for name in (g.name, *g.layers))]
        if not matched and (reason := _unmatched(pattern, structure, keep=own == "keep")):
            mistakes.append(spec.document.mistake(path, reason))
        limits = (0.0, 0.0) if own == "keep" else _merged(own, default.low, default.high)
        bounds |= {group.name: limits for group in matched}
    return tuple(BoundedGroup(group, *bounds[group.name]) for group in structure.groups), mistakes


def labelled(components: Sequence[C]) -> dict[str, C]:
    """Components by name, or by name and options where a name stands more than once."""
    names = [component.name for component in components]

    def label(component: C) -> str:
        options = {key: value for key, value in component.reference().items() if key != "use"}
        if names.count(component.name) == 1 or not options:
            return component.name
        return f"{component.name}({', '.join(f'{key}={value}' for key, value in options.items())})"

    return {label(component): component for component in components}


def _merged(own: GroupRange, low: float, high: float) -> tuple[float, float]:
    return low if own.low is None else own.low, high if own.high is None else own.high


def _unmatched(pattern: str, structure: Structure, *, keep: bool) -> str | None:
    """Why no group is matched; None where that is all right, since the layers are kept anyway."""
    layers = [layer for layer in structure.layers if fnmatchcase(layer, pattern)]
    if not layers:
        inner = [layer for layer in structure.layers if layer.startswith(f"{pattern}.")]
        close = [f"{pattern}.*"] if inner else difflib.get_close_matches(pattern, structure.layers, n=1)
        some = ", ".join(structure.layers[:8]) + (", …" if len(structure.layers) > 8 else "")
        hint = f"did you mean {close[0]!r}?" if close else f"its layers: {some}"
        return f"no layer of the model is called so; {hint}"
    if keep:
        return None
    reasons = dict.fromkeys(uncut.reason for uncut in structure.uncut if uncut.layer in layers)
    return f"{layers[0]} has no units that can be cut: {'; '.join(reasons) or 'it makes none'}"


def _nearest(units: float) -> int:
    return math.floor(units + 0.5)


def _ratio(group: Group) -> str:
    return f"ratio.{group.name}"
