"""Importance of every unit: of the dense model once for all trials, of a network in the making when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial

from torch import Tensor, nn

from autoprune.errors import TrialError
from autoprune.plugin import Choices, Group, Pruned, Scorer
from autoprune.study.checks import checked_scores
from autoprune.study.problem import Problem
from autoprune.study.proposal import Proposal
from autoprune.study.seeding import seeded
from autoprune.study.stages import Stages

_KEPT = 16
"""Rankings of the dense model that are kept: a knob of a scorer makes a new one in every trial."""

Ranking = dict[str, Tensor | TrialError]
"""Per group the importance of its units, (U,), or why there is none."""


class Scoring:
    """Asks each scorer once about the dense model, when its scores are first wanted, on a copy that then goes."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._scored: dict[str, Ranking] = {}
        """By the scorer's label, or by its reference where the search chooses its options."""

    def scores(self, label: str, group: str, stages: Stages, choices: Choices | None = None) -> Tensor:
        """Importance of a group's units in the dense model by a scorer, (U,); not to be changed.

        Args:
            label: Of the scorer.
            group: Its name.
            stages: Of what is being done.
            choices: Knobs, the scorer's options among them; the usual ones if None.

        Raises:
            TrialError: The scorer cannot rank the group.
        """
        variable = self._problem.space.scorers[label]
        scorer = variable.make(choices or {})
        key = json.dumps(scorer.reference(), sort_keys=True) if variable.knobs else label
        with stages.stage("score", scorer, runs=key not in self._scored):
            if key not in self._scored:
                while len(self._scored) >= max(_KEPT, len(self._problem.space.scorers)):
                    self._scored.pop(next(iter(self._scored)))
                network = self._problem.structure.cut(self._problem.network, {}).eval()
                self._scored[key] = self._ranking(scorer, network, self._problem.space.cuttable)
            return _told(self._scored[key][group])

    def ranked(
        self, proposal: Proposal, choices: Choices, stages: Stages, pruned: Pruned | None = None
    ) -> dict[str, tuple[str, Tensor]]:
        """Per group that may lose units, the label of the scorer that ranks it and its scores, (U,).

        Args:
            proposal: Tells which scorer is wanted, per group. One that cannot rank its group gives way to the next.
            choices: Its knobs.
            stages: Of the trial.
            pruned: What is ranked; the dense model if None. Units that are gone score minus infinity.

        Raises:
            TrialError: No scorer can rank a group.
        """
        space = self._problem.space
        groups = [group.name for group in space.cuttable]
        if pruned is None:

            def dense(group: str, label: str) -> Tensor:
                return self.scores(label, group, stages, choices)

            return {group: self._first(proposal, group, partial(dense, group)) for group in groups}
        remaining = {group.name: group for group in self._problem.structure.remaining(pruned.kept)}
        known: dict[str, Ranking] = {}

        def current(group: str, label: str) -> Tensor:
            if label not in known:
                scorer = space.scorers[label].make(choices)
                with stages.stage("score", scorer):
                    copy = self._problem.structure.cut(pruned.network, pruned.kept, before=pruned.kept).eval()
                    known[label] = self._ranking(scorer, copy, [remaining[name] for name in groups])
            return self._problem.structure.spread(group, _told(known[label][group]), pruned.kept)

        return {group: self._first(proposal, group, partial(current, group)) for group in groups}

    def _first(self, proposal: Proposal, group: str, scores: Callable[[str], Tensor]) -> tuple[str, Tensor]:
        """What the wanted scorer says of a group, or else the next one."""
        space = self._problem.space
        *labels, last = dict.fromkeys((space.scorer(proposal, group), *space.scorers))
        for label in labels:
            try:
                return label, scores(label).clone()
            except TrialError:
                continue
        return last, scores(last).clone()

    def _ranking(self, scorer: Scorer, network: nn.Module, groups: Iterable[Group]) -> Ranking:
        """Ask a scorer.

        Args:
            scorer: Which one.
            network: A copy, in ``eval()``, for it to use.
            groups: As they are in that network.
        """
        problem = self._problem
        context = problem.contexts.scoring(network, problem.predictor, groups=groups, seed=problem.spec.search.seed)
        scored: Ranking = {}
        with seeded(problem.spec.search.seed, problem.device):
            for group in context.groups:
                try:
                    if reason := scorer.refuses(group):
                        raise TrialError(reason)
                    scored[group.name] = checked_scores(scorer.score(group, context), group)
                except TrialError as error:
                    scored[group.name] = error
        return scored


def _told(scores: Tensor | TrialError) -> Tensor:
    if isinstance(scores, TrialError):
        raise TrialError(str(scores))
    return scores
