"""Chooses the next candidate: predicts what it will measure, and takes the one that adds most to the front.

Shapes use: N candidates, G groups, M objectives, D draws.
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
from autoprune_samplers._pool import allocations, levels, moves, scattered
from autoprune_samplers._prediction import LATENCY, Prediction

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
T = TypeVar("T")

_QUANTILES = np.array([-0.5, 0.0, 0.5])
_DIRECTIONS = 128
_MOVES = 200
_ROUNDS = 3
"""How often moves are made anew around the most promising of the pool."""
_BEST = 30


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

    def propose(self) -> dict[str, float | str] | None:
        """Parameters of the next candidate; None as long as too little is known to choose by."""
        history = self._ctx.memo("history", lambda: History(self._ctx))
        history.learn(self._ctx.history())
        measured = self._ctx.sensitivity()
        if history.dense is None or not measured:
            return None
        profile = self._latest("profile", tuple(measured.items()), lambda: Profile(self._ctx.groups, measured))
        telling, pending = history.telling(), self._pending()
        known = np.stack([history.rows[trial.number] for trial in telling])
        model = Prediction(self._ctx, profile, known, telling, history.dense)
        tried = history.tried.union(row.tobytes() for row in pending)
        chosen = self._chosen(model, profile, known[model.front], pending, tried)
        return None if chosen is None else self._parameters(chosen)

    def _chosen(
        self, model: Prediction, profile: Profile, front: Ints, pending: Ints, tried: set[bytes]
    ) -> Ints | None:
        ctx, groups = self._ctx, self._ctx.groups
        parts = [self._with_strategies(scattered(groups, 20, self._rng))]
        if self._pieces.allocation:
            allocate = partial(self._allocations, profile, model.cost_names)
            parts.append(self._with_strategies(self._latest("allocations", profile, allocate)))
        if self._pieces.moves:
            parts.append(self._moved(front))
        pool = _untried(np.concatenate(parts), tried)
        if not self._pieces.surrogate:
            drawn: Ints | None = pool[int(self._rng.integers(len(pool)))] if len(pool) else None
            return drawn
        towards = directions(len(ctx.objectives), _DIRECTIONS, np.random.default_rng(0))
        expected = model.draws(pending, np.zeros(1))[0][0] if len(pending) else np.zeros((0, len(ctx.objectives)))
        reached = np.concatenate([model.measured, expected])
        for last in [*[False] * (_ROUNDS - 1 if self._pieces.moves else 0), True]:
            if not len(pool):
                return None
            points, feasible = model.draws(pool, _QUANTILES)
            gains = expected_improvement(points, reached, towards) * feasible
            if not gains.max() > 0:  # nothing better is in sight: what reaches farthest, within the bounds if possible
                gains = reach(points[-1], towards).mean(axis=1) * (0.01 + feasible)
            if last:
                most: Ints = pool[int(gains.argmax())]
                return most
            best = pool[np.argsort(-gains, kind="stable")[:_BEST]]
            pool = _untried(np.concatenate([best, self._moved(best)]), tried)
        return None

    def _latest(self, name: str, key: Hashable, compute: Callable[[], T]) -> T:
        """Like `memo`, but what was made of an earlier key goes: probes tell more, and nothing asks for it again."""
        kept: dict[Hashable, T] = self._ctx.memo(name, dict)
        if key not in kept:
            kept.clear()
            kept[key] = compute()
        return kept[key]

    def _moved(self, around: Ints) -> Ints:
        """Moves of groups; now and then another strategy is chosen."""
        start = self._rng.integers(len(around), size=_MOVES)
        made = np.concatenate(
            [moves(around[:, :-1], self._ctx.groups, _MOVES, self._rng), around[start][:, -1:]], axis=1
        )
        other = self._rng.random(len(made)) < 0.2
        made[other, -1] = self._rng.integers(len(self._ctx.strategies), size=int(other.sum()))
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
            values = self._ctx.costs(np.concatenate([np.zeros((1, cut_units.shape[1]), dtype=np.int64), cut_units]))
            scaled: Floats = values[name][1:] / (abs(values[name][0]) or 1.0)
            return -scaled if self._ctx.objectives.get(name) == "maximize" else scaled

        return factors(share, cuts, self._ctx.meetings)

    def _with_strategies(self, cuts: Ints) -> Ints:
        drawn = self._rng.integers(len(self._ctx.strategies), size=(len(cuts), 1))
        return np.concatenate([cuts, drawn], axis=1)

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
            chosen = self._ctx.strategies.index(str(params["strategy"])) if "strategy" in params else 0
            rows.append([*cuts, chosen])
        return np.array(rows, dtype=np.int64).reshape(-1, len(self._ctx.groups) + 1)

    def _parameters(self, row: Ints) -> dict[str, float | str]:
        params: dict[str, float | str] = {}
        for group, units in zip(self._ctx.groups, row, strict=False):
            if group.parameter is not None:
                params[group.parameter] = min(max(float(units) / group.units, group.low), group.high)
        if len(self._ctx.strategies) > 1:
            params["strategy"] = self._ctx.strategies[row[-1]]
        return params


def _mixed(tables: Sequence[Factors], weights: Floats) -> Factors:
    mixed: dict[tuple[int, ...], Floats] = {}
    for table, weight in zip(tables, weights, strict=True):
        for groups, values in table.items():
            mixed[groups] = mixed[groups] + weight * values if groups in mixed else weight * values
    return mixed


def _untried(pool: Ints, tried: set[bytes]) -> Ints:
    pool = np.unique(pool, axis=0)
    new = [row.tobytes() not in tried for row in pool]
    left: Ints = pool[pool[:, :-1].any(axis=1) & np.array(new, dtype=bool)]
    return left
