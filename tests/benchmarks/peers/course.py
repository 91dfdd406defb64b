"""Runs of one method on one task, over time and over candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .record import course
from .tasks import Task

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """One run's hypervolume after each of its candidates."""

    seed: int
    seconds: Values
    images: Values
    evaluated: Values
    """Evaluated candidates up to each one."""
    volumes: Values
    test: float
    """Hypervolume of its members on the test split."""

    @classmethod
    def of(cls, task: Task, stored: dict[str, Any]) -> Run:
        """A stored run that has points."""
        points = stored["points"]
        return cls(
            seed=stored["seed"],
            seconds=np.array([point["seconds"] for point in points]),
            images=np.array([float(point["images"]) for point in points]),
            evaluated=np.cumsum([float(point["evaluated"]) for point in points]),
            volumes=np.array(course(task, points)),
            test=stored["hypervolume"]["test"],
        )

    def at(self, places: Values, *, along: str = "seconds") -> Values:
        """Hypervolume at those times (or candidates); 0 before the first candidate."""
        steps = np.searchsorted(getattr(self, along), places, side="right")
        return np.concatenate([[0.0], self.volumes])[steps]

    def reaching(self, volume: float) -> int | None:
        """The first candidate with that hypervolume."""
        reached = np.flatnonzero(self.volumes >= volume)
        return int(reached[0]) if len(reached) else None


@dataclass(frozen=True)
class Runs:
    """A method's runs with different seeds."""

    runs: tuple[Run, ...]

    @cached_property
    def finals(self) -> list[float]:
        """Hypervolume at the end, per seed."""
        return [float(run.volumes[-1]) for run in self.runs]

    @property
    def final(self) -> float:
        """Median of the hypervolume at the end."""
        return median(self.finals)

    @property
    def seconds(self) -> float:
        """Median of the seconds in all."""
        return median(float(run.seconds[-1]) for run in self.runs)

    def at(self, places: Values, *, along: str = "seconds") -> tuple[Values, Values, Values]:
        """Smallest, median and largest hypervolume at those times (or candidates)."""
        volumes = np.stack([run.at(places, along=along) for run in self.runs])
        return volumes.min(0), np.median(volumes, axis=0), volumes.max(0)

    def to_reach(self, volume: float) -> tuple[int, dict[str, float]]:
        """How many runs reach a hypervolume, and the medians of the seconds, candidates and images that it takes.

        A run that never does counts as infinitely long.
        """
        steps = [run.reaching(volume) for run in self.runs]
        return sum(step is not None for step in steps), {
            along: median(
                float("inf") if step is None else float(getattr(run, along)[step])
                for run, step in zip(self.runs, steps, strict=True)
            )
            for along in ("seconds", "evaluated", "images")
        }


def leads_from(ours: Runs, others: Sequence[Runs], *, until: float = math.inf) -> float | None:
    """The time from which our median stays above the medians of all others; None if it ends below one of them.

    Args:
        ours: What is to lead.
        others: All others. What has ended keeps its last value.
        until: Seconds that are looked at.
    """
    times = np.unique(np.concatenate([run.seconds for runs in (ours, *others) for run in runs.runs]))
    times = times[times <= until]
    ahead = np.all([ours.at(times)[1] > other.at(times)[1] for other in others], axis=0)
    behind = np.flatnonzero(~ahead)
    if not len(behind):
        return float(times[0])
    return None if behind[-1] == len(times) - 1 else float(times[behind[-1] + 1])
