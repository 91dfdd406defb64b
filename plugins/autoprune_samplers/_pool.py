"""Candidates to choose from: allocations along the whole front, and moves around what is on it.

Shapes use: N candidates, G groups, K knobs. A candidate is a row of units that go per group, and a level per knob.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoprune.plugin import SearchedGroup
from autoprune_samplers._allocation import Factors, allocate
from autoprune_samplers._damage import Profile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVELS = 12
"""Cuts per group that allocations consider."""
_MULTIPLIERS = np.geomspace(1e-4, 10.0, 160)
"""Prices of the cost, relative to the damage of cutting everything."""
_STEPS = (1 / 16, 1 / 8, 1 / 4)
"""Of a group's units, what a move shifts."""


def levels(groups: Sequence[SearchedGroup]) -> list[Ints]:
    """Cuts that are considered, ascending, per group."""
    return [
        np.unique(np.rint(np.linspace(g.fewest, g.most, LEVELS) / g.step).astype(np.int64) * g.step) for g in groups
    ]


def allocations(profile: Profile, cuts: Sequence[Ints], cost: Factors) -> Ints:
    """The cuts that do least damage for what they save, at every price of the cost.

    Args:
        profile: Gives the damage.
        cuts: From `levels`.
        cost: From `factors`, in shares of the dense model's.
    """
    damage = []
    for group, own in enumerate(cuts):
        rows = np.zeros((len(own), len(cuts)), dtype=np.int64)
        rows[:, group] = own
        damage.append(profile.per_group(rows)[:, group])
    most = max(sum(float(values[-1]) for values in damage), 1e-9)
    chosen = np.unique(allocate(damage, cost, _MULTIPLIERS * most), axis=0)
    return np.stack([own[chosen[:, group]] for group, own in enumerate(cuts)], axis=1)


def moves(around: Ints, groups: Sequence[SearchedGroup], count: int, rng: np.random.Generator) -> Ints:
    """Small changes: some units of one group, from one group to another or to two others, or a neighbour's cuts.

    Args:
        around: Candidates to start from, in the order of their cost (N, G + K); their knobs' levels stay, or are mixed
            with a neighbour's, too.
        groups: Give the bounds.
        count: Number of moves.
        rng: Draws them.
    """
    free = np.array([index for index, g in enumerate(groups) if g.fewest < g.most], dtype=np.int64)
    units, steps, fewest, most = (
        np.array([getattr(g, name) for g in groups]) for name in ("units", "step", "fewest", "most")
    )
    origins = rng.integers(len(around), size=count)
    made = around[origins].copy()
    kinds = rng.random(count)
    # Up to three groups a row: the first one loses what the others win, or the other way round.
    touched = free[rng.random((count, len(free))).argsort(axis=1)[:, :3]]
    number = np.where(kinds < 0.4, 1, np.where(kinds < 0.8, 2, 3))
    signs = rng.choice([-1, 1], size=count)[:, None] * np.array([1, -1, 1])[: touched.shape[1]]
    shifts = units[touched] * rng.choice(_STEPS, size=touched.shape) / steps[touched]
    shifts = np.maximum(1, np.rint(shifts).astype(np.int64)) * steps[touched] * signs
    shifts[np.arange(touched.shape[1]) >= number[:, None]] = 0
    np.put_along_axis(made, touched, np.take_along_axis(made, touched, axis=1) + shifts, axis=1)
    if len(around) > 1:
        mixing = kinds < 0.2
        before = (origins > 0) & ((origins + 1 == len(around)) | (rng.random(count) < 0.5))
        neighbours = around[np.where(before, origins - 1, np.minimum(origins + 1, len(around) - 1))]
        mixed = np.where(rng.random(made.shape) < 0.5, around[origins], neighbours)
        made[mixing] = mixed[mixing]
    made[:, : len(groups)] = np.clip(made[:, : len(groups)], fewest, most)
    return made


def scattered(groups: Sequence[SearchedGroup], count: int, rng: np.random.Generator) -> Ints:
    """Uniform between the bounds, in whole steps (N, G)."""
    steps = np.array([g.step for g in groups])
    fewest, most = (np.array([getattr(g, end) for g in groups]) for end in ("fewest", "most"))
    drawn: Ints = fewest + rng.integers(0, (most - fewest) // steps + 1, size=(count, len(groups))) * steps
    return drawn
