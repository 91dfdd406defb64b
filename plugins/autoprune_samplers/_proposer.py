"""Chooses the next candidate: predicts what it will measure, and takes the one that adds most to the front.

Shapes use: N candidates, G groups, K knobs, M objectives, D draws.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from autoprune.plugin import SamplerContext
from autoprune_samplers._allocation import Factors, factors
from autoprune_samplers._damage import Profile
from autoprune_samplers._history import History
from autoprune_samplers._improvement import directions, expected_improvement, reach
from autoprune_samplers._latency import aligned, padded_macs
from autoprune_samplers._levels import Levels
from autoprune_samplers._pool import allocations, levels, moves, scattered
from autoprune_samplers._prediction import LATENCY, Prediction

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
T = TypeVar("T")

_QUANTILES, _QUANTILES_OF_KNOBS = np.array([-0.5, 0.0, 0.5]), np.array([-1.0, 0.0, 1.0])
"""What may come of a candidate; what knobs do is less certain than what cuts do."""
_DIRECTIONS = 128
_MOVES = 200
_ROUNDS = 3
"""How often moves are made anew around the most promising of the pool."""
_BEST = 30
_KNOB_MOVED, _KNOBS_BORROWED = 0.4, 0.2
"""Shares of moves in which one knob is moved, and in which all are taken from another candidate."""


@dataclass(frozen=True)
class Pieces:
    """Which parts of the search are used; all of them unless one is to be measured."""

    allocation: bool
    surrogate: bool
    moves: bool


class Proposer:
    """Of one draw."""

    def __init__(self, ctx: SamplerContext, pieces: Pieces, *, number: int) -> None:
        self._ctx = ctx
        self._number = number
        self._pieces = pieces
        self._rng = np.random.default_rng(ctx.seed)
        self._levels = ctx.memo("levels", lambda: Levels(ctx.knobs, ctx.priced))
        self._explored: Ints | None = None
        """Levels of the open knobs that this trial is to find out about."""

    def propose(self) -> dict[str, float | str] | None:
        """Parameters of the next candidate; None as long as too little is known to choose by."""
        history = self._ctx.memo("history", lambda: History(self._ctx))
        history.learn(self._ctx.history())
        measured = self._ctx.sensitivity()
        if history.dense is None or (not measured and any(g.parameter for g in self._ctx.groups)):
            return None
        profile = self._latest("profile", tuple(measured.items()), lambda: Profile(self._ctx.groups, measured))
        telling, pending = history.telling(), self._pending()
        known = np.stack([history.rows[trial.number] for trial in telling])
        model = Prediction(self._ctx, self._levels, profile, known, telling, history.dense)
        tried = history.tried.union(row.tobytes() for row in pending)
        self._explored = self._levels.explored(history.proposed + len(pending))
        chosen = self._chosen(model, profile, known[model.front], pending, tried)
        if chosen is None and self._explored is not None:  # that is tried already
            self._explored = None
            chosen = self._chosen(model, profile, known[model.front], pending, tried)
        return None if chosen is None else self._parameters(chosen)

    def _chosen(
        self, model: Prediction, profile: Profile, front: Ints, pending: Ints, tried: set[bytes]
    ) -> Ints | None:
        ctx, groups = self._ctx, self._ctx.groups
        parts = [self._with_knobs(scattered(groups, 20, self._rng), front)]
        if self._pieces.allocation:
            allocate = partial(self._allocations, profile, model.cost_names)
            parts.append(self._with_knobs(self._latest("allocations", profile, allocate), front))
        if self._pieces.moves:
            parts.append(self._moved(front))
        pool = self._untried(np.concatenate(parts), tried)
        if not self._pieces.surrogate:
            drawn: Ints | None = pool[int(self._rng.integers(len(pool)))] if len(pool) else None
            return drawn
        quantiles = _QUANTILES_OF_KNOBS if len(self._levels.open) else _QUANTILES
        towards = directions(len(ctx.objectives), _DIRECTIONS, np.random.default_rng(0))
        expected = model.draws(pending, np.zeros(1))[0][0] if len(pending) else np.zeros((0, len(ctx.objectives)))
        reached = np.concatenate([model.measured, expected])
        for last in [*[False] * (_ROUNDS - 1 if self._pieces.moves else 0), True]:
            if not len(pool):
                return None
            points, feasible = model.draws(pool, quantiles)
            gains = self._gains(points, feasible, reached, towards)
            if last:
                most: Ints = pool[int(gains.argmax())]
                return most
            best = pool[np.argsort(-gains, kind="stable")[:_BEST]]
            pool = self._untried(np.concatenate([best, self._moved(best)]), tried)
        return None

    def _gains(self, points: Floats, feasible: Floats, reached: Floats, towards: Floats) -> Floats:
        """What candidates are worth to try (N,).

        Args:
            points: Their objectives at the quantiles, from poor to good (D, N, M).
            feasible: Share of draws within all bounds (N,).
            reached: What there is already (K, M).
            towards: Directions (W, M).
        """
        if self._explored is None:
            gains = expected_improvement(points, reached, towards) * feasible
            if gains.max() > 0:
                return gains
            # Nothing better is in sight: what reaches farthest, within the bounds if possible.
            weight = 0.01 + feasible
        else:  # What is least known, where it may be of use.
            weight = np.abs(points[-1] - points[0]).sum(axis=1)
        farthest: Floats = reach(points[-1], towards).mean(axis=1) * weight
        return farthest

    def _latest(self, name: str, key: Hashable, compute: Callable[[], T]) -> T:
        """Like `memo`, but what was made of an earlier key goes: probes tell more, and nothing asks for it again."""
        kept: dict[Hashable, T] = self._ctx.memo(name, dict)
        if key not in kept:
            kept.clear()
            kept[key] = compute()
        return kept[key]

    def _moved(self, around: Ints) -> Ints:
        """Moves of groups; now and then a knob is moved, too, or all of them are another candidate's."""
        others = around[self._rng.integers(len(around), size=_MOVES)]
        made = moves(around, self._ctx.groups, _MOVES, self._rng)
        kinds = self._rng.random(len(made))
        knobs = slice(len(self._ctx.groups), None)
        moved, borrowed = kinds < _KNOB_MOVED, kinds > 1 - _KNOBS_BORROWED
        made[moved, knobs] = self._levels.moved(made[moved, knobs], self._rng)
        made[borrowed, knobs] = others[borrowed, knobs]
        return made

    def _allocations(self, profile: Profile, names: Sequence[str]) -> Ints:
        """Along each cost alone, and along some mixtures of them."""
        cuts = levels(self._ctx.groups)
        if LATENCY in names:
            cuts = [aligned(group, own) for group, own in zip(self._ctx.groups, cuts, strict=True)]
        tables = [self._ctx.memo(("factors", name), partial(self._factors, name, cuts)) for name in names]
        weights = list(np.eye(len(tables)))
        if len(tables) > 1:
            weights += list(np.random.default_rng(0).dirichlet(np.ones(len(tables)), size=4))
        return np.concatenate([allocations(profile, cuts, _mixed(tables, weight)) for weight in weights])

    def _factors(self, name: str, cuts: Sequence[Ints]) -> Factors:
        def share(cut_units: Ints) -> Floats:
            if name == LATENCY:
                mean: Floats = padded_macs(self._ctx.costs, self._ctx.groups, cut_units).mean(axis=1)
                return mean
            whole = np.zeros((1, cut_units.shape[1]), dtype=np.int64)
            values = self._ctx.costs(np.concatenate([whole, cut_units]), None)
            scaled: Floats = values[name][1:] / (abs(values[name][0]) or 1.0)
            return -scaled if self._ctx.objectives.get(name) == "maximize" else scaled

        return factors(share, cuts, self._ctx.meetings)

    def _with_knobs(self, cuts: Ints, front: Ints) -> Ints:
        """Each of these cuts (N, G) twice, with knobs at random and with those of one on the front."""
        if not self._ctx.knobs:
            return cuts
        drawn = self._levels.scattered(len(cuts), self._rng)
        best = front[self._rng.integers(len(front), size=len(cuts)), len(self._ctx.groups) :]
        return np.concatenate([np.tile(cuts, (2, 1)), np.concatenate([drawn, best])], axis=1)

    def _pending(self) -> Ints:
        """Rows of the other trials that are running."""
        rows = []
        for number, params in self._ctx.pending().items():
            if number == self._number:
                continue
            cuts = []
            for group in self._ctx.groups:
                ratio = float(params.get(group.parameter or "", group.fewest / group.units))
                units = round(ratio * group.units / group.step) * group.step
                cuts.append(min(max(units, group.fewest), group.most))
            rows.append([*cuts, *self._levels.row(params)])
        return np.array(rows, dtype=np.int64).reshape(-1, len(self._ctx.groups) + len(self._ctx.knobs))

    def _parameters(self, row: Ints) -> dict[str, float | str]:
        params: dict[str, float | str] = {}
        for group, units in zip(self._ctx.groups, row, strict=False):
            if group.parameter is not None:
                params[group.parameter] = min(max(float(units) / group.units, group.low), group.high)
        return params | self._levels.values(row[len(self._ctx.groups) :])

    def _untried(self, pool: Ints, tried: set[bytes]) -> Ints:
        """Of a pool (N, G + K) what is new, and not the dense model; with the knobs that this trial is to explore."""
        groups = len(self._ctx.groups)
        if self._explored is not None:
            pool[:, groups + self._levels.open] = self._explored
        pool = np.unique(pool, axis=0)
        new = np.array([row.tobytes() not in tried for row in pool], dtype=bool)
        changed = pool[:, :groups].any(axis=1) | self._levels.changes(pool[:, groups:])
        left: Ints = pool[changed & new]
        return left


def _mixed(tables: Sequence[Factors], weights: Floats) -> Factors:
    mixed: dict[tuple[int, ...], Floats] = {}
    for table, weight in zip(tables, weights, strict=True):
        for groups, values in table.items():
            mixed[groups] = mixed[groups] + weight * values if groups in mixed else weight * values
    return mixed
