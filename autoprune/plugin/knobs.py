"""What a search chooses: a group's ratio, a layer's rank, an option of a component. All of it is one kind of thing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

Value: TypeAlias = float | str
Choices = Mapping[str, Value]
"""Knob to what was chosen."""


@dataclass(frozen=True)
class Range:
    """A number between two bounds.

    Args:
        name: Of the knob, unique in a search: ``ratio.conv1``, ``low-rank.fc1``, ``strategy.recover.lr``.
        low: Smallest value.
        high: Largest value.
        log: Whether equal factors, not equal differences, are equal steps.
        whole: Whether it is a whole number.
        usual: What the dense model and queued candidates have: a number that changes least. ``low`` if None.
    """

    name: str
    low: float
    high: float
    log: bool = False
    whole: bool = False
    usual: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"{self.name}: low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"{self.name}: a log scale begins above 0, not at {self.low:g}")
        if self.whole and not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise ValueError(f"{self.name}: whole numbers lie between whole bounds, not {self.low:g} and {self.high:g}")
        if self.usual is not None and not self.low <= self.usual <= self.high:
            raise ValueError(f"{self.name}: {self.usual:g} does not lie between {self.low:g} and {self.high:g}")

    @property
    def default(self) -> Value:
        """What is taken where nobody chooses."""
        return self.low if self.usual is None else self.usual

    def place(self, value: Value) -> float:
        """Where a value lies between the bounds, from 0 to 1 in equal steps."""
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, float(value)))
        return (at - low) / (high - low)

    def at(self, place: float) -> Value:
        """The value at a place between 0 and 1."""
        if place <= 0 or place >= 1:  # to the last digit
            return float(self.low if place <= 0 else self.high)
        if self.log:
            value = math.exp(math.log(self.low) + place * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + place * (self.high - self.low)
        value = min(max(value, self.low), self.high)
        return float(round(value)) if self.whole else value


@dataclass(frozen=True)
class Choice:
    """One of several labels.

    Args:
        name: Of the knob, unique in a search: ``strategy``, ``scorer.weights``.
        options: What there is to choose from; the first one is what the dense model and queued candidates have.
    """

    name: str
    options: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.options)) < max(2, len(self.options)):
            raise ValueError(f"{self.name}: give two options or more, each once")

    @property
    def default(self) -> Value:
        """What is taken where nobody chooses."""
        return self.options[0]


Knob = Range | Choice
"""Whatever the search chooses."""
