"""The Pareto front of a study while it grows, trial by trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from autoprune.plugin.domination import dominates, losses
from autoprune.plugin.results import TrialResult
from autoprune.plugin.values import Direction

_BEYOND_COST, _BEYOND_QUALITY = 0.1, 1.0
"""A cut that costs a tenth more than the dense model is worth nothing; one with twice its loss may be worth a lot."""


def least_worth(direction: Direction, dense: float, *, costs: bool) -> float:
    """What a metric must be better than to be worth anything, from which hypervolumes are reckoned.

    Args:
        direction: Which way is better.
        dense: Of the dense model.
        costs: Whether the metric says what a model costs (its size, its latency), not how well it does.

    Returns:
        0 for what is maximised; for what is minimised 1.1 × the dense model's if it is a cost, and twice it if not.
    """
    if direction == "maximize":
        return 0.0
    return dense + (_BEYOND_COST if costs else _BEYOND_QUALITY) * abs(dense)


class RunningFront:
    """The feasible trials so far that no other feasible trial dominates.

    Of trials with equal objectives the earliest stands for all, whatever the order in which they come.

    Example:
        >>> front = RunningFront(study.objectives, study.finished)
        >>> fallen = front.add(result)  # in an observer's trial_finished
    """

    def __init__(self, objectives: Mapping[str, Direction], results: Iterable[TrialResult] = ()) -> None:
        """The front of some trials.

        Args:
            objectives: Direction per metric.
            results: Trials in any order.
        """
        self._objectives = objectives
        self._members: dict[int, tuple[tuple[float, ...], TrialResult]] = {}
        for result in results:
            self.add(result)

    def add(self, result: TrialResult) -> tuple[int, ...]:
        """Take in one more trial.

        Returns:
            Numbers of the trials that are off the front from now on: those that it takes the place of, or its own.
        """
        if not result.feasible:
            return (result.number,)
        mine = losses(result.metrics, self._objectives)
        for number, (theirs, _) in self._members.items():
            if dominates(theirs, mine) or (theirs == mine and number < result.number):
                return (result.number,)
        fallen = [n for n, (theirs, _) in self._members.items() if theirs == mine or dominates(mine, theirs)]
        for number in fallen:
            del self._members[number]
        self._members[result.number] = mine, result
        return tuple(number for number in fallen if number != result.number)

    def __contains__(self, number: int) -> bool:
        """Whether the trial of that number is on it."""
        return number in self._members

    def __len__(self) -> int:
        """How many trials are on it."""
        return len(self._members)

    @property
    def members(self) -> tuple[TrialResult, ...]:
        """Its trials, best first objective first."""
        return tuple(result for _, result in self._sorted)

    @property
    def losses(self) -> tuple[tuple[float, ...], ...]:
        """Their objectives, each to be minimised, in the same order."""
        return tuple(values for values, _ in self._sorted)

    @property
    def _sorted(self) -> list[tuple[tuple[float, ...], TrialResult]]:
        return sorted(self._members.values(), key=lambda member: (member[0][0], member[1].number))
