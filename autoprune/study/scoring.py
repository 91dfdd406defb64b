"""Importance of every unit by each scorer, computed once for all trials."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from autoprune.errors import TrialError
from autoprune.plugin import ScoreContext
from autoprune.study.checks import checked_scores
from autoprune.study.problem import Problem
from autoprune.study.seeding import seeded
from autoprune.study.stages import Stages


class Scoring:
    """Asks each scorer once, when its scores are first wanted, on a copy of the model that then goes."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._scored: dict[str, dict[str, Tensor | TrialError]] = {}

    def scores(self, label: str, group: str, stages: Stages) -> Tensor:
        """Importance of a group's units by a scorer, (U,); not to be changed.

        Raises:
            TrialError: The scorer cannot rank the group.
        """
        with stages.stage("score", self._problem.space.scorers[label]):
            if label not in self._scored:
                self._scored[label] = self._all(label)
            scores = self._scored[label][group]
            if isinstance(scores, TrialError):
                raise TrialError(str(scores))
            return scores

    def ranked(self, scorers: Mapping[str, str], stages: Stages) -> dict[str, tuple[str, Tensor]]:
        """Per group that may lose units, the label of the scorer that ranks it and its scores, (U,).

        Args:
            scorers: Labels that are wanted, per group. One that cannot rank its group gives way to the next one.
            stages: Of the trial.

        Raises:
            TrialError: No scorer can rank a group.
        """
        return {group.name: self._ranked(group.name, scorers, stages) for group in self._problem.space.cuttable}

    def _ranked(self, group: str, scorers: Mapping[str, str], stages: Stages) -> tuple[str, Tensor]:
        *labels, last = dict.fromkeys((self._problem.space.scorer(scorers, group), *self._problem.space.scorers))
        for label in labels:
            try:
                return label, self.scores(label, group, stages).clone()
            except TrialError:
                continue
        return last, self.scores(last, group, stages).clone()

    def _all(self, label: str) -> dict[str, Tensor | TrialError]:
        problem, scorer = self._problem, self._problem.space.scorers[label]
        network = problem.structure.cut(problem.network, {}).eval()
        context = ScoreContext(
            device=problem.device,
            seed=problem.spec.search.seed,
            data=problem.data,
            model=problem.predictor(network),
            network=network,
            groups=problem.space.cuttable,
        )
        scored: dict[str, Tensor | TrialError] = {}
        with seeded(problem.spec.search.seed, problem.device):
            for group in context.groups:
                try:
                    scored[group.name] = checked_scores(scorer.score(group, context), group)
                except TrialError as error:
                    scored[group.name] = error
        return scored
