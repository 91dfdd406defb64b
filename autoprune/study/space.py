"""The search space: every knob, and which whole units and components a proposal comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from torch import nn

from autoprune.errors import TrialError
from autoprune.host.variables import Variable
from autoprune.plugin import (
    Candidate,
    Choice,
    Choices,
    Component,
    Group,
    GroupSummary,
    Knob,
    Range,
    Scorer,
    SearchedGroup,
    Strategy,
    Transform,
)
from autoprune.plugin.results import Origin
from autoprune.study.bounds import BoundedGroup
from autoprune.study.proposal import Params, Proposal
from autoprune.study.stages import blaming

C = TypeVar("C", bound=Component)
RATIO = "ratio."
"""What the names of knobs that are ratios begin with; a group's name follows."""


@dataclass(frozen=True)
class Step:
    """A transform, and what the search chooses of it."""

    variable: Variable[Transform]
    prefix: str
    """Of the knobs of its layers: ``low-rank``."""
    layers: tuple[Knob, ...]
    """Its own knobs, by layer."""

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """The knobs of its layers, by their names in the search."""
        return tuple(_renamed(knob, f"{self.prefix}.{knob.name}") for knob in self.layers)

    def made(self, choices: Choices) -> tuple[Transform, dict[str, float | str]]:
        """The transform with the options that were chosen, and the choice for its layers."""
        named = {knob.name: choices.get(f"{self.prefix}.{knob.name}", knob.default) for knob in self.layers}
        return self.variable.make(choices), named


@dataclass(frozen=True)
class Space:
    """Everything that a search chooses from."""

    groups: tuple[BoundedGroup, ...]
    scorers: Mapping[str, Variable[Scorer]]
    """By the label that results show."""
    strategies: Mapping[str, Variable[Strategy]]
    steps: tuple[Step, ...] = ()
    """The transforms, in order."""
    chooses_scorer: bool = False
    """Whether a knob chooses one scorer for all groups; else each group has, of several, what does least harm."""

    @cached_property
    def cuttable(self) -> tuple[Group, ...]:
        """The groups that may lose units: all but those that the spec keeps."""
        return tuple(b.group for b in self.groups if b.cuts[1] > 0)

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:
        """What is chosen besides ratios: one of several components, their options, what transforms offer."""
        chosen = {"strategy": tuple(self.strategies), "scorer": tuple(self.scorers) if self.chooses_scorer else ()}
        choices = (Choice(name, labels) for name, labels in chosen.items() if len(labels) > 1)
        options = (
            *(knob for strategy in self.strategies.values() for knob in strategy.knobs),
            *(knob for scorer in self.scorers.values() for knob in scorer.knobs),
        )
        offered = (knob for step in self.steps for knob in (*step.variable.knobs, *step.knobs))
        return (*choices, *options, *offered)

    @cached_property
    def priced(self) -> frozenset[str]:
        """Names of the knobs that change exact costs."""
        return frozenset(knob.name for step in self.steps for knob in (*step.variable.knobs, *step.knobs))

    @cached_property
    def parameters(self) -> tuple[Knob, ...]:
        """All that a sampler chooses: a ratio per group with more than one possible cut, and the other knobs."""
        return *(Range(_ratio(b.group), b.low, b.high) for b in self.groups if b.searched), *self.knobs

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

    @property
    def compared_scorers(self) -> tuple[str, ...]:
        """Labels of the scorers that probes compare, or of the one that they rank by."""
        return tuple(self.scorers)[:1] if self.chooses_scorer else tuple(self.scorers)

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

    def choices(self, proposal: Proposal) -> dict[str, float | str]:
        """What it chooses besides ratios; of the dense model, what changes nothing."""
        if proposal.origin == "dense":
            return {}
        return {knob.name: proposal.params.get(knob.name, knob.default) for knob in self.knobs}

    def scorer(self, proposal: Proposal, group: str) -> str:
        """Label of the scorer that ranks a group."""
        first = next(iter(self.scorers))
        if self.chooses_scorer:
            return str(proposal.params.get("scorer", first))
        return proposal.scorers.get(group, first)

    def strategy(self, proposal: Proposal) -> str:
        """Label of its strategy."""
        return str(proposal.params.get("strategy", next(iter(self.strategies))))

    def _uniform(self, ratio: float) -> Params:
        params: Params = {_ratio(b.group): min(max(ratio, b.low), b.high) for b in self.groups if b.searched}
        return params | {knob.name: knob.default for knob in self.knobs}


def steps(transforms: Sequence[Variable[Transform]], network: nn.Module) -> tuple[Step, ...]:
    """What may be chosen of transforms.

    Args:
        transforms: In order.
        network: The dense network.

    Raises:
        TrialError: A transform cannot tell, or an option that is to be chosen decides what else is.
    """
    names = [variable.component.name for variable in transforms]
    prefixes = [name if names.count(name) == 1 else f"{name}.{index}" for index, name in enumerate(names)]
    return tuple(
        Step(variable, prefix, _layer_knobs(variable, network))
        for variable, prefix in zip(transforms, prefixes, strict=True)
    )


def _layer_knobs(variable: Variable[Transform], network: nn.Module) -> tuple[Knob, ...]:
    with blaming(variable.component):
        found = tuple(variable.component.knobs(network))
        for knob in variable.knobs:
            for end in knob.options if isinstance(knob, Choice) else (knob.low, knob.high):
                if tuple(variable.make({knob.name: end}).knobs(network)) != found:
                    raise TrialError(f"{knob.name} decides what else may be chosen: write one value")
    return found


def labelled(variables: Sequence[Variable[C]]) -> dict[str, Variable[C]]:
    """Components by name, or by name and the options that differ where a name stands more than once."""
    references = [variable.component.reference() for variable in variables]

    def label(reference: dict[str, Any]) -> str:
        alike = [other for other in references if other["use"] == reference["use"]]
        told = [f"{key}={value}" for key, value in reference.items() if any(o[key] != value for o in alike)]
        return f"{reference['use']}({', '.join(told)})" if told else str(reference["use"])

    return {label(reference): variable for reference, variable in zip(references, variables, strict=True)}


def _renamed(knob: Knob, name: str) -> Knob:
    from dataclasses import replace

    return replace(knob, name=name)


def _ratio(group: Group) -> str:
    return f"{RATIO}{group.name}"
