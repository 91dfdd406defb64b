from __future__ import annotations

import random

import pytest

from autoprune.plugin import Measured, apart


def test_which_way_round_does_not_matter():
    rng = random.Random(0)
    said = set()
    for _ in range(300):
        one, other = (
            Measured(value=value, low=value - rng.random() / 5, high=value + rng.random() / 5)
            for value in (rng.random(), rng.random())
        )
        said.add(apart(one, other).told_apart)
        assert apart(one, other).told_apart is apart(other, one).told_apart
        assert apart(one, other).value == -apart(other, one).value
    assert said == {True, False}


@pytest.mark.parametrize("bare", [Measured(value=0.1), Measured(value=0.1, low=0.0)])
def test_without_an_interval_nothing_is_said(bare):
    sure = Measured(value=0.9, low=0.8, high=1.0)
    for found in (apart(bare, sure), apart(sure, bare)):
        assert found.low is found.high is None
        assert not found.told_apart
