from __future__ import annotations

import random

import pytest

from autoprune.plugin import Measured, apart
from autoprune.plugin.values import told_apart


def test_what_is_told_apart_has_a_difference_without_zero():
    rng = random.Random(0)
    said = set()
    for _ in range(300):
        one, other = (
            Measured(value=value, low=value - rng.random() / 5, high=value + rng.random() / 5)
            for value in (rng.random(), rng.random())
        )
        said.add(told_apart(one, other))
        assert told_apart(one, other) is told_apart(other, one) is apart(one, other).told_apart
    assert said == {True, False}


@pytest.mark.parametrize("bare", [Measured(value=0.1), Measured(value=0.1, low=0.0)])
def test_without_an_interval_nothing_is_said(bare):
    sure = Measured(value=0.9, low=0.8, high=1.0)
    assert told_apart(bare, sure) is told_apart(sure, bare) is None
