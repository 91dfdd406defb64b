"""A trial's result in the making."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from autoprune.plugin import Candidate, Measured, TrialResult
from autoprune.plugin.results import TrialState
from autoprune.spec import Bound
from autoprune.spec.secrets import masked
from autoprune.study.proposal import Proposal
from autoprune.study.seeding import derive

if TYPE_CHECKING:
    from autoprune.study.problem import Problem


class Record:
    """What is known of a trial so far."""

    def __init__(self, problem: Problem, proposal: Proposal) -> None:
        self._problem = problem
        self._proposal = proposal
        self._started = datetime.now(UTC)
        self.seed = derive(problem.spec.search.seed, proposal.number)
        self.candidate = problem.space.candidate(proposal)
        self.choices = problem.space.choices(proposal)
        """What was chosen besides ratios."""
        self.scorers = {
            group: problem.space.scorer(proposal, group) for group, cut in self.candidate.cut_units.items() if cut
        }
        """Per group that loses units, whose ranking it is."""
        self.metrics: dict[str, Measured] = {}

    def allocated(self, lost: Mapping[str, int]) -> None:
        """Take down that the strategy itself decided how many units go, per group."""
        units = {bounded.group.name: bounded.group.units for bounded in self._problem.space.groups}
        cut = {name: lost.get(name, 0) for name in units}
        self.candidate = Candidate(ratios={name: cut[name] / units[name] for name in units}, cut_units=cut)
        space, proposal = self._problem.space, self._proposal
        self.scorers = {group: self.scorers.get(group, space.scorer(proposal, group)) for group in cut if cut[group]}

    @property
    def bounds(self) -> dict[str, Bound]:
        """The constraints, as numbers; of the dense model, those that are a share of it are left out."""
        dense = self._proposal.dense
        return {
            name: bound.at(dense.get(name, 0.0))
            for name, bound in self._problem.spec.constraints.items()
            if name in dense or not bound.of_dense
        }

    @property
    def violations(self) -> dict[str, float]:
        """Per constraint on what is measured so far, how far it is broken."""
        bounds = self.bounds.items()
        return {name: bound.violation(self.metrics[name].value) for name, bound in bounds if name in self.metrics}

    @property
    def broken(self) -> str:
        """The constraints that do not hold, in words; empty where all do."""
        broken = [name for name, by in self.violations.items() if by > 0]
        return ", ".join(f"{name} {self.metrics[name].value:g} is not {self._in_words(name)}" for name in broken)

    def _in_words(self, name: str) -> str:
        """A constraint, with the number that a share of the dense model's is."""
        bound = self._problem.spec.constraints[name]
        return f"{bound}, {self.bounds[name].value:g}" if bound.of_dense else str(bound)

    def _shown(self, reason: str) -> str:
        spec = self._problem.spec
        return masked(reason, of=filter(None, (spec.search.storage, spec.tracking.uri)))

    def result(
        self,
        state: TrialState,
        reason: str | None = None,
        durations_s: Mapping[str, float] | None = None,
        traceback: str | None = None,
    ) -> TrialResult:
        """The trial as it ended."""
        space = self._problem.space
        return TrialResult(
            number=self._proposal.number,
            state=state,
            origin=self._proposal.origin,
            ratios=space.asked(self._proposal),
            achieved=dict(self.candidate.ratios),
            scorers=self.scorers,
            strategy=space.strategy(self._proposal),
            knobs=self.choices,
            precision=self._proposal.precision,
            metrics=self.metrics,
            violations=self.violations,
            durations_s=dict(durations_s or {}),
            reason=None if reason is None else self._shown(reason),
            traceback=None if traceback is None else self._shown(traceback),
            seed=self.seed,
            started=self._started,
            finished=datetime.now(UTC),
        )
