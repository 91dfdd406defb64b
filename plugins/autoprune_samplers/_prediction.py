"""What a candidate's objectives will be, by all that the study has measured.

Shapes use: N candidates, G groups, K knobs, M objectives, D draws. A row is the units that go per group, then a level
per knob.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from autoprune.plugin import Choices, Cost, SamplerContext, TrialResult, nondominated
from autoprune.plugin.front import least_worth
from autoprune_samplers._damage import Profile
from autoprune_samplers._latency import padded_macs
from autoprune_samplers._levels import Levels
from autoprune_samplers._process import Traits
from autoprune_samplers._surrogate import Plain, Quality

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LATENCY = "<latency>"
"""The cost that allocations take for latency."""
_DOUBT = 0.3
"""Damage that a range is expected to do which leaves the place where it changes nothing, of the median group's."""


class Prediction:
    """Predicts the objectives of candidates, all minimised and relative to the reference."""

    def __init__(
        self,
        ctx: SamplerContext,
        levels: Levels,
        profile: Profile,
        known: Ints,
        trials: Sequence[TrialResult],
        dense: TrialResult,
    ) -> None:
        """Fit it.

        Args:
            ctx: The sampler's.
            levels: Of its knobs.
            profile: Sensitivity of the groups.
            known: Rows of the trials.
            trials: Those that it hangs on.
            dense: The dense model's trial.
        """
        self._ctx = ctx
        self._levels = levels
        self._profile = profile
        self._units = np.array([g.units for g in ctx.groups], dtype=float)
        self._dense = {name: dense.metrics[name].value for name in (*ctx.objectives, *ctx.constraints)}
        timed = any(ctx.metrics[name].cost is Cost.TIMING for name in ctx.objectives)
        wanted = dict.fromkeys((*ctx.objectives, *ctx.constraints))
        known_before = ctx.costs(known[:1, : len(ctx.groups)], None)
        exact = [n for n in wanted if n in known_before and ctx.metrics[n].cost is Cost.EXACT]
        self.cost_names = [*(n for n in exact if n in ctx.objectives), *([LATENCY] if timed else [])] or ["macs"]
        described = self._described(known)
        self._fitted = {name: self._fit(name, known, described, trials) for name in wanted if name not in exact}
        complete = [row for row, t in enumerate(trials) if t.feasible or t is dense]
        every = self._points({n: np.array([trials[r].metrics[n].value for r in complete]) for n in ctx.objectives})
        order = sorted(nondominated(every), key=lambda row: float(every[row, -1]))
        self.measured: Floats = every[order]
        """Objectives of the feasible trials that no other one dominates."""
        self.front = [complete[row] for row in order]
        """Rows of the trials that no other one dominates, in the order of the last objective."""

    def _fit(
        self, name: str, known: Ints, described: tuple[Traits, Floats], trials: Sequence[TrialResult]
    ) -> Quality | Plain:
        rows = [row for row, trial in enumerate(trials) if name in trial.metrics]
        values = np.array([trials[row].metrics[name].value for row in rows])
        traits, log_damage = described[0][rows], described[1][rows]
        dense = self._dense[name]
        if dense > 0 and self._ctx.metrics[name].cost is not Cost.TIMING:
            return Quality(self._profile.link, traits=traits, log_damage=log_damage, values=values, dense=dense)
        return Plain(traits=traits, arithmetic=self._arithmetic(known[rows]), values=values, dense=dense)

    def draws(self, rows: Ints, quantiles: Floats) -> tuple[Floats, Floats]:
        """Objectives (D, N, M) at quantiles of what is uncertain, and the share of draws within all bounds (N,)."""
        traits, log_damage = self._described(rows)
        exact = self._ctx.costs(*self._split(rows))
        values: dict[str, Floats] = {}
        for name in dict.fromkeys((*self._ctx.objectives, *self._ctx.constraints)):
            fitted = self._fitted.get(name)
            # Quantiles go from poor to good.
            if fitted is None:
                values[name] = np.tile(exact[name], (len(quantiles), 1))
            elif isinstance(fitted, Quality):
                values[name] = fitted.draws(traits, log_damage, quantiles)
            else:
                sign = 1.0 if self._ctx.metrics[name].direction == "maximize" else -1.0
                values[name] = fitted.draws(traits, self._arithmetic(rows), sign * quantiles)
        holds = np.ones((len(quantiles), len(rows)))
        for name, bound in self._ctx.constraints.items():
            holds *= np.vectorize(bound.at(self._dense[name]).violation)(values[name]) <= 0
        return self._points(values), holds.mean(axis=0)

    def _described(self, rows: Ints) -> tuple[Traits, Floats]:
        """What tells candidates apart, and log of the predicted damage.

        What a knob does is for trials to tell. But one that leaves the model as it is at one place is not expected to
        do so everywhere: a search of ratios would else be spoilt by what costs less and seems to be free.
        """
        cuts, chosen = rows[:, : len(self._units)], rows[:, len(self._units) :]
        shares = cuts / self._units * (2.0 / np.sqrt(len(self._units)))
        damage = self._profile.per_group(cuts).sum(axis=1)
        damage += _DOUBT * self._profile.usual(self._levels.away(chosen)).sum(axis=1)
        return Traits(shares, self._levels.features(chosen)), np.log(damage + 0.01)

    def _split(self, rows: Ints) -> tuple[Ints, list[Choices] | None]:
        """What exact costs hang on: units that go, and the knobs that are priced."""
        return rows[:, : len(self._units)], self._levels.choices(rows[:, len(self._units) :])

    def _arithmetic(self, rows: Ints) -> Floats:
        return padded_macs(self._ctx.costs, self._ctx.groups, *self._split(rows))

    def _points(self, values: Mapping[str, Floats]) -> Floats:
        """Objective values to what is minimised, the reference at 0, in units of the dense model's."""
        columns = []
        for name, direction in self._ctx.objectives.items():
            dense = self._dense[name]
            beyond = values[name] - least_worth(direction, dense, costs=self._ctx.metrics[name].is_cost)
            columns.append((-beyond if direction == "maximize" else beyond) / (abs(dense) or 1.0))
        return np.stack(columns, axis=-1)
