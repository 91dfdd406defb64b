"""Knobs as whole numbers: the level of each, so that a candidate is one row of integers.

A `Choice` has a level per option. A `Range` has a grid of levels between its bounds, in equal steps or equal factors as
the knob says, on whole numbers where it wants them; the value that changes nothing is always one of them.

Shapes use: N candidates, K knobs.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np
from numpy.typing import NDArray

from autoprune.plugin import Choice, Choices, Knob, Range

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_PLACES = 33
"""Levels of a range, at most, the value that changes nothing aside."""
_STEPS = (1, 2, 4, 8)
"""Levels that a range moves by."""
_JUMPS = 0.2
"""Share of a range's moves that may end anywhere."""
_OPENING, _LONGEST_OPENING = 3, 12
"""Trials that a search begins with to find out what knobs do, per knob and at most."""
_AGAIN = 4
"""After those, one in so many goes on with it: good values of two knobs may be good together alone."""


class Levels:
    """The knobs of a search on their levels."""

    def __init__(self, knobs: Sequence[Knob], priced: Set[str] = frozenset()) -> None:
        """Of the knobs, in their order.

        Args:
            knobs: All of them.
            priced: Names of those that change the exact costs.
        """
        self._knobs = tuple(knobs)
        self._values = [_values(knob) for knob in knobs]
        self._places = [_places(knob, own) for knob, own in zip(knobs, self._values, strict=True)]
        self._priced = np.array([knob.name in priced for knob in knobs], dtype=bool)
        self.counts: Ints = np.array([len(own) for own in self._values], dtype=np.int64)
        """Levels of each knob (K,)."""
        self.usual: Ints = self.row({})
        """Level of each knob where nobody chooses (K,)."""
        rests = [knob.name in priced if isinstance(knob, Choice) else knob.usual is not None for knob in knobs]
        self._rests = np.array(rests, dtype=bool)
        """Which knobs change nothing, or least, on their usual level (K,)."""
        self.open: Ints = np.flatnonzero(~self._rests)
        """Numbers of the other knobs: what they do is open until they are tried."""

    def row(self, chosen: Choices) -> Ints:
        """The nearest levels to values, (K,); the usual one of a knob that is missing.

        Args:
            chosen: By the knobs' names; others may be among them.
        """
        levels = [
            _level(knob, chosen.get(knob.name, knob.default), places)
            for knob, places in zip(self._knobs, self._places, strict=True)
        ]
        return np.array(levels, dtype=np.int64)

    def values(self, row: Ints) -> dict[str, float | str]:
        """The knobs' values at levels (K,), by name: whole numbers are ints."""
        chosen = zip(self._knobs, self._values, row, strict=True)
        return {knob.name: values[level] for knob, values, level in chosen}

    def choices(self, rows: Ints) -> list[Choices] | None:
        """What the exact costs of candidates (N, K) hang on; None where no knob changes them."""
        if not self._priced.any():
            return None
        priced = np.flatnonzero(self._priced)
        return [{self._knobs[k].name: self._values[k][row[k]] for k in priced} for row in rows]

    def changes(self, rows: Ints) -> NDArray[np.bool_]:
        """Which candidates (N, K) differ from the dense model by a knob alone, (N,)."""
        moved: NDArray[np.bool_] = ((rows != self.usual) & self._priced).any(axis=1)
        return moved

    def features(self, rows: Ints) -> Floats:
        """What tells candidates (N, K) apart, (N, F): the place of a range, a column per option of a choice.

        However many knobs there are, they are together no farther apart than a few are.
        """
        scale = min(1.0, 2.0 / np.sqrt(max(len(self._knobs), 1)))
        columns = [np.zeros((len(rows), 0))]
        for column, knob in enumerate(self._knobs):
            if isinstance(knob, Choice):
                columns.append(0.5 * scale * (rows[:, column, None] == np.arange(self.counts[column])))
            else:
                columns.append(scale * self._places[column][rows[:, column], None])
        return np.concatenate(columns, axis=1)

    def away(self, rows: Ints) -> Floats:
        """How far ranges of candidates (N, K) are from where they change nothing, in shares of their length (N, R)."""
        columns = [
            np.abs(self._places[k][rows[:, k], None] - self._places[k][self.usual[k]])
            for k, knob in enumerate(self._knobs)
            if isinstance(knob, Range) and self._rests[k]
        ]
        return np.concatenate([np.zeros((len(rows), 0)), *columns], axis=1)

    def explored(self, number: int) -> Ints | None:
        """Levels of the open knobs to find out about in a trial; None in one that may choose them.

        Such trials go through a sequence that fills the space of these knobs evenly: Roberts, *The unreasonable
        effectiveness of quasirandom sequences* (2018).

        Args:
            number: Of the trial, of those that the sampler proposes, from 0.
        """
        knobs = len(self.open)
        opening = min(_OPENING * knobs, _LONGEST_OPENING)
        if not knobs or (number >= opening and number % _AGAIN):
            return None
        step = number if number < opening else opening + number // _AGAIN
        root = 2.0  # of x ** (d + 1) = x + 1
        for _ in range(30):
            root = (1.0 + root) ** (1.0 / (knobs + 1))
        places = (0.5 + (step + 1) * root ** -np.arange(1.0, knobs + 1)) % 1.0
        levels: Ints = (places * self.counts[self.open]).astype(np.int64)
        return levels

    def scattered(self, count: int, rng: np.random.Generator) -> Ints:
        """Levels at random (N, K): half the rows leave all knobs that may change nothing so, a quarter all but few."""
        drawn: Ints = rng.integers(self.counts, size=(count, len(self._knobs)))
        resting = int(self._rests.sum())
        if resting:
            share = rng.choice([1.0, 1.0 - 1.0 / resting, 0.0], p=[0.5, 0.25, 0.25], size=(count, 1))
            drawn = np.where(self._rests & (rng.random(drawn.shape) < share), self.usual, drawn)
        return drawn

    def moved(self, rows: Ints, rng: np.random.Generator) -> Ints:
        """One knob of each candidate (N, K) moved: a range by some levels, a choice to another option."""
        made = rows.copy()
        if not self._knobs:
            return made
        one, knob = np.arange(len(rows)), rng.integers(len(self._knobs), size=len(rows))
        counts = self.counts[knob]
        steps = rng.choice(_STEPS, size=len(rows)) * rng.choice([-1, 1], size=len(rows))
        anywhere = (made[one, knob] + rng.integers(1, counts)) % counts
        chosen = np.array([isinstance(each, Choice) for each in self._knobs])[knob]
        near = np.clip(made[one, knob] + steps, 0, counts - 1)
        made[one, knob] = np.where(chosen | (rng.random(len(rows)) < _JUMPS), anywhere, near)
        return made


def _values(knob: Knob) -> Sequence[float | str]:
    """Of each level, ascending in a range."""
    if isinstance(knob, Choice):
        return knob.options
    grid = {float(knob.at(place)) for place in np.linspace(0.0, 1.0, _PLACES)}
    if knob.whole and knob.high - knob.low < _PLACES:
        grid = {float(value) for value in range(int(knob.low), int(knob.high) + 1)}
    usual = min(max(float(knob.default), knob.low), knob.high)
    grid = {usual, *(value for value in grid if abs(knob.place(value) - knob.place(usual)) > 1e-9)}
    return [int(value) if knob.whole else value for value in sorted(grid)]


def _places(knob: Knob, values: Sequence[float | str]) -> Floats:
    if isinstance(knob, Choice):
        return np.zeros(len(values))
    return np.array([knob.place(value) for value in values])


def _level(knob: Knob, value: float | str, places: Floats) -> int:
    """Of a choice that is no option any more, the first one's."""
    if isinstance(knob, Choice):
        return knob.options.index(str(value)) if value in knob.options else 0
    if not isinstance(value, int | float):
        value = knob.default
    bounded = min(max(float(value), knob.low), knob.high)
    return int(np.abs(places - knob.place(bounded)).argmin())
