"""Cuts per group that do least damage for what they save: exact Lagrangian allocation.

Damage is a sum over groups. Costs are not: a convolution's multiply-accumulates are a product of what its input and
its output keep. `factors` writes a cost as a sum of small tables over the groups that meet in a product, and `allocate`
minimises damage + multiplier × cost over all groups at once by eliminating one group after the other (Bertelè and
Brioschi, *Nonserial Dynamic Programming*, 1972): the minimum over all combinations, in time that grows with the number
of groups. Where too many groups meet, so that tables would get too large, it descends one group at a time instead.

Shapes use: G groups, L levels of a group (cuts that are considered), B multipliers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Factors = Mapping[tuple[int, ...], Floats]
"""Groups that meet to a table of shape (L, …) over their levels."""

_LARGEST = 200_000
"""Entries of a table, per multiplier, beyond which elimination gives way to descent."""
_MOST_OF_THREES = 8
"""Groups in a meeting beyond which only pairs are looked at: there, sizes add up (a concatenation)."""


def factors(
    cost: Callable[[Ints], Floats], levels: Sequence[Ints], meetings: Sequence[Sequence[int]]
) -> dict[tuple[int, ...], Floats]:
    """A cost as a sum of tables, exact where at most three groups meet in a product.

    The anchored decomposition: what a group changes alone, what a pair changes beyond its two groups, what three change
    beyond their pairs; all others at their first level. Rabitz and Aliş, *General foundations of high-dimensional model
    representations*, Journal of Mathematical Chemistry 25 (1999).

    Args:
        cost: Units that go, (N, G), to the cost (N,).
        levels: Units that go at each level, (L,) per group.
        meetings: Groups that may meet in a product. Others only add up.
    """
    base = np.array([each[0] for each in levels])
    origin = float(cost(base[None])[0])
    found: dict[tuple[int, ...], Floats] = {}
    table = partial(_table, cost, levels, base, origin, found)
    for group in range(len(levels)):
        found[group,] = table((group,))
    scale = max(abs(origin), *(float(np.abs(t).max()) for t in found.values()))
    pairs = dict.fromkeys(p for meeting in meetings for p in itertools.combinations(sorted(set(meeting)), 2))
    for pair in _telling(cost, levels, list(pairs), base, found, origin, scale):
        found[pair] = table(pair)
    sets = [sorted(set(meeting)) for meeting in meetings if len(set(meeting)) <= _MOST_OF_THREES]
    for three in dict.fromkeys(three for meeting in sets for three in itertools.combinations(meeting, 3)):
        if all(pair in found for pair in itertools.combinations(three, 2)):
            beyond = table(three)
            if np.abs(beyond).max() > 1e-9 * scale:
                found[three] = beyond
    return found


def _table(
    cost: Callable[[Ints], Floats],
    levels: Sequence[Ints],
    base: Ints,
    origin: float,
    found: Factors,
    groups: tuple[int, ...],
) -> Floats:
    """Cost over the levels of these groups, less what their subsets account for."""
    shape = tuple(len(levels[g]) for g in groups)
    rows = np.tile(base, (int(np.prod(shape)), 1))
    for column, grid in zip(groups, np.meshgrid(*(levels[g] for g in groups), indexing="ij"), strict=True):
        rows[:, column] = grid.ravel()
    beyond: Floats = cost(rows).reshape(shape) - origin
    for size in range(1, len(groups)):
        for subset in itertools.combinations(groups, size):
            if subset in found:
                beyond = beyond - _spread(found[subset], subset, groups)
    return beyond


def _telling(
    cost: Callable[[Ints], Floats],
    levels: Sequence[Ints],
    pairs: Sequence[tuple[int, int]],
    base: Ints,
    alone: Factors,
    origin: float,
    scale: float,
) -> list[tuple[int, int]]:
    """The pairs that do more together than each alone, told by their last levels."""
    if not pairs:
        return []
    rows = np.tile(base, (len(pairs), 1))
    expected = np.full(len(pairs), origin)
    for row, pair in enumerate(pairs):
        for group in pair:
            rows[row, group] = levels[group][-1]
            expected[row] += alone[group,][-1]
    beyond = np.abs(cost(rows) - expected) > 1e-9 * scale
    return [pair for pair, tells in zip(pairs, beyond, strict=True) if tells]


def allocate(damage: Sequence[Floats], cost: Factors, multipliers: Floats) -> Ints:
    """The levels that minimise damage + multiplier × cost.

    Args:
        damage: Of each level, (L,) per group.
        cost: From `factors`, or a sum of several.
        multipliers: Price of a unit of cost, (B,).

    Returns:
        Level per multiplier and group, (B, G). Of equally good levels the first.
    """
    prices = np.asarray(multipliers, dtype=float)
    tables: dict[tuple[int, ...], Floats] = {}
    for groups, values in cost.items():
        tables[groups] = prices.reshape(-1, *[1] * len(groups)) * values
    for group, values in enumerate(damage):
        tables[group,] = tables.get((group,), np.zeros((len(prices), len(values)))) + values
    order = _elimination([len(values) for values in damage], list(tables))
    if order is None:
        return _descend(tables, [len(values) for values in damage], len(prices))
    decided: list[tuple[int, tuple[int, ...], Ints]] = []
    for group in order:
        own = [groups for groups in tables if group in groups]
        others = tuple(sorted({g for groups in own for g in groups} - {group}))
        scope = (*others, group)
        total = sum((_spread(tables.pop(groups), groups, scope, batch=True) for groups in own), np.zeros(1))
        shape = (len(prices), *(len(damage[g]) for g in scope))
        total = np.broadcast_to(total, shape)
        decided.append((group, others, total.argmin(axis=-1)))
        if others:
            left = total.min(axis=-1)
            tables[others] = tables[others] + left if others in tables else left
    levels = np.zeros((len(prices), len(damage)), dtype=np.int64)
    rows = np.arange(len(prices))
    for group, others, best in reversed(decided):
        levels[:, group] = best[(rows, *(levels[:, g] for g in others))]
    return levels


def _elimination(sizes: Sequence[int], scopes: Sequence[tuple[int, ...]]) -> list[int] | None:
    """Groups in an order that keeps the tables small, or None where a table would be too large."""
    neighbours: dict[int, set[int]] = {group: set() for group in range(len(sizes))}
    for scope in scopes:
        for group in scope:
            neighbours[group].update(g for g in scope if g != group)
    order = []
    while neighbours:
        group = min(neighbours, key=lambda g: (len(neighbours[g]), g))
        met = neighbours.pop(group)
        if sizes[group] * np.prod([float(sizes[g]) for g in met]) > _LARGEST:
            return None
        for other in met:
            neighbours[other] |= met - {other}
            neighbours[other].discard(group)
        order.append(group)
    return order


def _descend(tables: Factors, sizes: Sequence[int], batch: int) -> Ints:
    """A minimum that no change of one group betters, from the first levels and from the last."""
    rows = np.arange(batch)
    own: list[list[tuple[tuple[int, ...], Floats]]] = [[] for _ in sizes]
    for groups, values in tables.items():
        for group in groups:
            own[group].append((groups, values))

    def value(levels: Ints) -> Floats:
        picked = (t[(rows % len(t), *(levels[:, g] for g in groups))] for groups, t in tables.items())
        total: Floats = np.sum(list(picked), axis=0)
        return total

    ends = []
    for start in (np.zeros(len(sizes), dtype=np.int64), np.array(sizes) - 1):
        levels = np.tile(start, (batch, 1))
        for _ in range(20):
            before = levels.copy()
            for group, size in enumerate(sizes):
                total = np.zeros((batch, size))
                for groups, values in own[group]:
                    index = tuple(np.arange(size) if g == group else levels[:, g, None] for g in groups)
                    total += values[(rows[:, None] % len(values), *index)]
                levels[:, group] = total.argmin(axis=1)
            if (levels == before).all():
                break
        ends.append(levels)
    better = value(ends[1]) < value(ends[0])
    chosen: Ints = np.where(better[:, None], ends[1], ends[0])
    return chosen


def _spread(table: Floats, groups: tuple[int, ...], scope: tuple[int, ...], *, batch: bool = False) -> Floats:
    """A table in the axes of a larger scope, with length 1 where it does not depend on a group."""
    lead = 1 if batch else 0
    order = sorted(range(len(groups)), key=lambda axis: scope.index(groups[axis]))
    moved = table.transpose(*range(lead), *(lead + axis for axis in order))
    sizes = iter(moved.shape[lead:])
    return moved.reshape(*moved.shape[:lead], *(next(sizes) if g in groups else 1 for g in scope))
