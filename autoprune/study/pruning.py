"""Runs strategies: what they score, what they share with other trials, and what they give back."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

from torch import Tensor

from autoprune.errors import TrialError
from autoprune.plugin import Pruned
from autoprune.structure import Plan
from autoprune.study.checks import checked_cut
from autoprune.study.once import Once
from autoprune.study.problem import Problem
from autoprune.study.proposal import Proposal
from autoprune.study.record import Record
from autoprune.study.scoring import Scoring
from autoprune.study.seeding import seeded
from autoprune.study.stages import Stages


class Pruning:
    """Runs strategies, one trial after the other."""

    def __init__(self, problem: Problem, study: Path, scoring: Scoring) -> None:
        """Runs strategies.

        Args:
            problem: What is searched.
            study: Folder that keeps what all trials share.
            scoring: Ranks units.
        """
        self._problem = problem
        self._once = Once(study, problem.spec.search.seed, problem.device)
        self._scoring = scoring
        self._kept: dict[Hashable, Any] = {}

    def __call__(self, proposal: Proposal, record: Record, stages: Stages) -> tuple[Pruned, Plan]:
        """The cut, recovered model of a trial, on the device and in ``eval()``, and the plan of its cut.

        Raises:
            TrialError: The strategy cut something else than was asked, or made what a saved model would lose.
        """
        problem = self._problem
        if proposal.origin == "dense":
            with stages.stage("cut"):
                return Pruned(problem.structure.cut(problem.network, {}).eval()), Plan({})

        def score(pruned: Pruned) -> dict[str, Tensor]:
            current = None if pruned.untouched else pruned
            ranked = self._scoring.ranked(proposal, record.choices, stages, current)
            record.scorers |= {group: label for group, (label, _) in ranked.items() if group in record.scorers}
            return {group: scores for group, (_, scores) in ranked.items()}

        strategy = problem.space.strategies[problem.space.strategy(proposal)].make(record.choices)
        strategy = strategy.final() if proposal.final else strategy
        context = problem.contexts.pruning(
            lambda network: problem.predictor(network, proposal.precision),
            seed=record.seed,
            cache=self._kept,
            score=score,
            once=self._once,
            cutting=lambda: stages.stage("cut"),
        )
        with stages.stage("recover", strategy), seeded(record.seed, problem.device):
            made = strategy.prune(record.candidate, context)
            asked = None if strategy.allocates else record.candidate
            pruned, plan, lost = checked_cut(made, asked, problem.structure, problem.network)
        if strategy.allocates:
            record.allocated(lost)
        return Pruned(pruned.network.to(problem.device).eval(), pruned.kept), plan

    def recover_alone(self, pruned: Pruned) -> bool:
        """What the first strategy's recoveries come to where one group alone was cut; whether to anything."""
        problem = self._problem

        def score(pruned: Pruned) -> dict[str, Tensor]:  # noqa: ARG001  of none
            raise TrialError("units are not ranked here: they are gone")

        seed = problem.spec.search.seed
        context = problem.contexts.pruning(problem.predictor, seed=seed, cache=self._kept, score=score, once=self._once)
        strategy = next(iter(problem.space.strategies.values())).component
        with seeded(seed, problem.device):
            return strategy.recover_alone(pruned, context)
