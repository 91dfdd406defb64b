"""The Pareto front of finished trials, what becomes of it once they are done, and the volume that it dominates."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from autoprune.plugin import Front, FrontPoint, Measured, TrialResult
from autoprune.plugin.front import RunningFront, least_worth
from autoprune.plugin.values import Direction
from autoprune.plugin.volume import hypervolume

Metrics = Mapping[str, Measured]


@dataclass(frozen=True)
class Finals:
    """What became of the front's members since the trials were done, each by the trial's number.

    The members of the search's front are settled one after the other: made again, or left as they are for good. What is
    settled and not dominated stays, even where a later trial beats what the search had measured of it.
    """

    settled: Mapping[int, TrialResult | None] = field(default_factory=dict)
    """What making them again came to; None for those that stay what the search made."""
    tests: Mapping[int, Metrics] = field(default_factory=dict)
    """On the test split, or on the part of it that all are measured on."""
    whole_tests: Mapping[int, Metrics] = field(default_factory=dict)
    """On all of the test split, where ``tests`` is of a part."""
    together: Mapping[str, tuple[tuple[int, ...], Metrics]] = field(default_factory=dict)
    """What evaluators, by their names in the study, measured of the models of which trials together."""
    part: tuple[int, int] | None = None
    """How many of how many samples of the test split ``tests`` is of; None before that is decided."""

    def now(self, result: TrialResult) -> TrialResult:
        """The result with the metrics that its saved model has."""
        again = self.settled.get(result.number)
        if again is None:
            return result
        return result.model_copy(update={"metrics": again.metrics, "violations": again.violations})

    def front(self, results: Iterable[TrialResult], objectives: Mapping[str, Direction]) -> RunningFront:
        """The front of the saved models: of the search's front and of all that ever was settled.

        Args:
            results: All trials of the study, as the search measured them.
            objectives: Direction per metric.
        """
        searched = RunningFront(objectives, results := tuple(results))
        members = (result for result in results if result.number in searched or result.number in self.settled)
        return RunningFront(objectives, map(self.now, members))

    def kept(self, results: Iterable[TrialResult], objectives: Mapping[str, Direction]) -> set[int]:
        """Numbers of the trials whose models are kept: members that are not settled yet, and the front of the others.

        What is settled is measured against what is settled alone: what is not may come out worse in the end.
        """
        searched = RunningFront(objectives, results := tuple(results))
        settled = RunningFront(objectives, (self.now(result) for result in results if result.number in self.settled))
        new = {result.number for result in searched.members}.difference(self.settled)
        return new.union(result.number for result in settled.members)


def pareto_front(results: Iterable[TrialResult], objectives: Mapping[str, Direction]) -> tuple[TrialResult, ...]:
    """The feasible trials that no other feasible trial dominates, best first objective first.

    Of trials with equal objectives the earliest stands for all.

    Args:
        results: Trials in any order.
        objectives: Direction per metric.
    """
    return RunningFront(objectives, results).members


def measure_front(
    results: Sequence[TrialResult], objectives: Mapping[str, Direction], finals: Finals, *, costs: Collection[str]
) -> Front:
    """The front with its hypervolume.

    Args:
        results: All trials of the study, as the search measured them.
        objectives: Direction per metric.
        finals: What became of its members.
        costs: Metrics that say what a model costs.
    """
    front, reference = finals.front(results, objectives), _reference(results, objectives, costs)
    searched = {result.number: result.metrics for result in results if finals.settled.get(result.number)}
    signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in objectives.values()])
    return Front(
        points=tuple(
            FrontPoint(
                trial=trial,
                searched=searched.get(trial.number, {}),
                test=dict(finals.tests.get(trial.number, {})),
                whole_test=dict(finals.whole_tests.get(trial.number, {})),
            )
            for trial in front.members
        ),
        objectives=dict(objectives),
        hypervolume=hypervolume(np.array(front.losses), signs * np.array(list(reference.values()))),
        reference=reference,
    )


def _reference(
    results: Sequence[TrialResult], objectives: Mapping[str, Direction], costs: Collection[str]
) -> dict[str, float]:
    """By the dense model; where it failed, the worst trial takes its place."""
    complete = [result for result in results if result.state == "complete"]
    dense = [result for result in complete if result.origin == "dense"]
    reference = {}
    for name, direction in objectives.items():
        worst = max((result.metrics[name].value for result in dense or complete), default=0.0)
        reference[name] = least_worth(direction, worst, costs=name in costs)
    return reference
