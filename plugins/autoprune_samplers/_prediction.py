"""What a candidate's objectives will be, by all that the study has measured.

Shapes use: N candidates, G groups, M objectives, D draws. A row is the units that go per group, then the number of the
strategy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from autoprune.plugin import Cost, SamplerContext, TrialResult, nondominated
from autoprune_samplers._damage import Profile
from autoprune_samplers._latency import padded_macs
from autoprune_samplers._surrogate import Plain, Quality

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LATENCY = "<latency>"
"""The cost that allocations take for latency."""


class Prediction:
    """Predicts the objectives of candidates, all minimised and relative to the reference."""

    def __init__(
        self,
        ctx: SamplerContext,
        profile: Profile,
        known: Ints,
        history: Sequence[TrialResult],
        dense: TrialResult,
    ) -> None:
        """Fit it.

        Args:
            ctx: The sampler's.
            profile: Sensitivity of the groups.
            known: Rows of the trials.
            history: The trials.
            dense: The dense model's trial.
        """
        self._ctx = ctx
        self._profile = profile
        self._units = np.array([g.units for g in ctx.groups], dtype=float)
        self._dense = {name: dense.metrics[name].value for name in (*ctx.objectives, *ctx.constraints)}
        timed = any(ctx.metrics[name].cost is Cost.TIMING for name in ctx.objectives)
        wanted = dict.fromkeys((*ctx.objectives, *ctx.constraints))
        known_before = ctx.costs(known[:1, :-1])
        exact = [n for n in wanted if n in known_before and ctx.metrics[n].cost is Cost.EXACT]
        self.cost_names = [*(n for n in exact if n in ctx.objectives), *([LATENCY] if timed else [])] or ["macs"]
        described = self._described(known)
        self._fitted = {name: self._fit(name, known, described, history) for name in wanted if name not in exact}
        complete = [row for row, t in enumerate(history) if t.feasible or t is dense]
        every = self._points({n: np.array([history[r].metrics[n].value for r in complete]) for n in ctx.objectives})
        order = sorted(nondominated(every), key=lambda row: float(every[row, -1]))
        self.measured: Floats = every[order]
        """Objectives of the feasible trials that no other one dominates."""
        self.front = [complete[row] for row in order]
        """Rows of the trials that no other one dominates, in the order of the last objective."""

    def _fit(
        self, name: str, known: Ints, described: tuple[Floats, Floats], history: Sequence[TrialResult]
    ) -> Quality | Plain:
        rows = [row for row, trial in enumerate(history) if name in trial.metrics]
        values = np.array([history[row].metrics[name].value for row in rows])
        features, log_damage = (each[rows] for each in described)
        dense = self._dense[name]
        if dense > 0 and self._ctx.metrics[name].cost is not Cost.TIMING:
            return Quality(self._profile.link, features=features, log_damage=log_damage, values=values, dense=dense)
        return Plain(features=features, arithmetic=self._arithmetic(known[rows]), values=values, dense=dense)

    def draws(self, rows: Ints, quantiles: Floats) -> tuple[Floats, Floats]:
        """Objectives (D, N, M) at quantiles of what is uncertain, and the share of draws within all bounds (N,)."""
        features, log_damage = self._described(rows)
        exact = self._ctx.costs(rows[:, :-1])
        values: dict[str, Floats] = {}
        for name in dict.fromkeys((*self._ctx.objectives, *self._ctx.constraints)):
            fitted = self._fitted.get(name)
            # Quantiles go from poor to good.
            if fitted is None:
                values[name] = np.tile(exact[name], (len(quantiles), 1))
            elif isinstance(fitted, Quality):
                values[name] = fitted.draws(features, log_damage, quantiles)
            else:
                sign = 1.0 if self._ctx.metrics[name].direction == "maximize" else -1.0
                values[name] = fitted.draws(features, self._arithmetic(rows), sign * quantiles)
        holds = np.ones((len(quantiles), len(rows)))
        for name, bound in self._ctx.constraints.items():
            holds *= np.vectorize(bound.violation)(values[name]) <= 0
        return self._points(values), holds.mean(axis=0)

    def _described(self, rows: Ints) -> tuple[Floats, Floats]:
        """Features, and log of the predicted damage."""
        cuts = rows[:, :-1]
        shares = cuts / self._units * (2.0 / np.sqrt(len(self._units)))
        strategy = 0.5 * (rows[:, -1:] == np.arange(len(self._ctx.strategies)))
        damage = self._profile.per_group(cuts).sum(axis=1)
        return np.concatenate([shares, strategy], axis=1), np.log(damage + 0.01)

    def _arithmetic(self, rows: Ints) -> Floats:
        return padded_macs(self._ctx.costs, self._ctx.groups, rows[:, :-1])

    def _points(self, values: Mapping[str, Floats]) -> Floats:
        """Objective values to what is minimised, the reference at 0 and the dense model at about -1."""
        columns = []
        for name, direction in self._ctx.objectives.items():
            scale = abs(self._dense[name]) or 1.0
            scaled = values[name] / scale
            columns.append(-scaled if direction == "maximize" else scaled - 1.1)
        return np.stack(columns, axis=-1)
