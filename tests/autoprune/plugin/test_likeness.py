"""All pairs at once, against one pair after the other."""

from __future__ import annotations

import random

from autoprune.plugin import Measured, apart
from autoprune.plugin.likeness import alike


def measured(rng: random.Random) -> Measured:
    value = rng.random()
    kind = rng.random()
    if kind < 0.2:
        return Measured(value=value)
    if kind < 0.3:
        return Measured(value=value, low=value)
    return Measured(value=value, low=value - rng.random() / 3, high=value + rng.random() / 3)


def some(rng: random.Random) -> dict[str, Measured]:
    return {name: measured(rng) for name in ("accuracy", "loss", "macs", "other") if rng.random() < 0.8}


def test_it_is_what_pairs_say() -> None:
    rng = random.Random(1)
    searched = [some(rng) for _ in range(40)]
    tested = [some(rng) if rng.random() < 0.7 else {} for _ in searched]
    names = ("accuracy", "loss", "macs")
    found = alike(searched, tested, names)
    said = set()
    for one in range(40):
        for other in range(40):
            split = tested if tested[one] and tested[other] else searched
            both = [n for n in names if n in split[one] and n in split[other]]
            differences = [apart(split[one][n], split[other][n]) for n in both]
            ranged = [each for each in differences if each.low is not None]
            expected = one != other and bool(ranged) and not any(each.told_apart for each in ranged)
            assert found[one, other] == expected
            said.add(expected)
    assert said == {True, False}


def test_of_no_model_nothing_is_said() -> None:
    assert alike([], [], ("accuracy",)).shape == (0, 0)
