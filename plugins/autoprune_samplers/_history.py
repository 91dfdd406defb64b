"""A study's finished trials, each looked at once, so that a long study costs no more per draw than a short one."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoprune.plugin import Cost, SamplerContext, TrialResult, dominates, losses
from autoprune_samplers._levels import Levels
from autoprune_samplers._process import MOST_FITTED

Ints = NDArray[np.int64]


class History:
    """What the finished trials tell: what was tried, and the trials that a prediction hangs on."""

    def __init__(self, ctx: SamplerContext) -> None:
        """Of a study that has none yet.

        Args:
            ctx: The sampler's, of any draw.
        """
        self._groups = ctx.groups
        self._levels = Levels(ctx.knobs, ctx.priced)
        self._uncertain = {name for name, metric in ctx.metrics.items() if metric.cost is not Cost.EXACT}
        self._objectives = ctx.objectives
        self._trials: dict[int, TrialResult] = {}
        self._latest: dict[str, list[int]] = {name: [] for name in (*ctx.objectives, *ctx.constraints)}
        """Numbers of the latest trials with each metric, ascending: those that a process is fitted to."""
        self._front: dict[int, tuple[float, ...]] = {}
        """Numbers of the trials that no other one is better than, and their losses."""
        self.tried: set[bytes] = set()
        """Rows of all that was tried, failures included: those would fail again."""
        self.rows: dict[int, Ints] = {}
        """By number: the units that went per group, and a level per knob."""
        self.proposed = 0
        """How many trials a sampler proposed."""
        self.dense: TrialResult | None = None
        """The dense model's trial, if it was measured."""

    def learn(self, finished: Sequence[TrialResult]) -> None:
        """Look at the trials that are new.

        Args:
            finished: All of the study, by number; new ones are mostly the last.
        """
        left = len(finished) - len(self._trials)
        for trial in reversed(finished):
            if not left:
                return
            if trial.number not in self._trials:
                left -= 1
                self._trials[trial.number] = trial
                self.proposed += trial.origin == "sampler"
                row = self.rows[trial.number] = self._row(trial)
                self.tried.add(row.tobytes())
                # A candidate that was given up half-way tells something, too.
                if trial.state == "complete" or not self._uncertain.isdisjoint(trial.metrics):
                    self._take(trial)

    def telling(self) -> list[TrialResult]:
        """The trials that a prediction hangs on, by number: the latest with each metric, and the front."""
        numbers = {*self._front, *(number for latest in self._latest.values() for number in latest)}
        return [self._trials[number] for number in sorted(numbers)]

    def _take(self, trial: TrialResult) -> None:
        for name, latest in self._latest.items():
            if name in trial.metrics:
                insort(latest, trial.number)
                del latest[:-MOST_FITTED]
        dense = trial.origin == "dense" and trial.state == "complete"
        if dense and self.dense is None:
            self.dense = trial
        if trial.feasible or dense:
            mine = losses(trial.metrics, self._objectives)
            if not any(dominates(theirs, mine) for theirs in self._front.values()):
                self._front = {n: theirs for n, theirs in self._front.items() if not dominates(mine, theirs)}
                self._front[trial.number] = mine

    def _row(self, trial: TrialResult) -> Ints:
        cuts = [round(trial.achieved.get(g.name, 0.0) * g.units) for g in self._groups]
        return np.array([*cuts, *self._levels.row(trial.knobs)], dtype=np.int64)
