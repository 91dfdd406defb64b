"""Knobs as levels, against the knobs themselves."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.plugin import Choice, Range
from autoprune_samplers._levels import Levels

LR = Range("lr", 1e-4, 1e-1, log=True)
MOMENTUM = Range("momentum", 0.0, 0.99)
EPOCHS = Range("epochs", 1, 8, whole=True)
SAMPLES = Range("samples", 16, 4096, log=True, whole=True)
RANK = Range("rank", 0.1, 1.0, usual=1.0)
STRATEGY = Choice("strategy", ("one-shot", "iterative", "gradual"))
KNOBS = (LR, MOMENTUM, EPOCHS, SAMPLES, RANK, STRATEGY)


@pytest.fixture
def levels():
    return Levels(KNOBS, {"rank"})


def every(knob):
    """Values of all its levels."""
    alone = Levels([knob])
    return [alone.values(np.array([level]))[knob.name] for level in range(int(alone.counts[0]))]


@pytest.mark.parametrize("knob", KNOBS, ids=lambda k: k.name)
def test_every_level_is_a_value_of_its_own_and_comes_back(knob):
    values = every(knob)
    alone = Levels([knob])
    assert len(set(values)) == len(values)
    assert [int(alone.row({knob.name: value})[0]) for value in values] == list(range(len(values)))
    assert knob.default == values[int(alone.usual[0])]
    assert np.array_equal(alone.row({}), alone.usual)
    assert np.array_equal(alone.row({"another's": 3.0}), alone.usual)


def test_a_range_goes_from_bound_to_bound_in_equal_steps_or_factors():
    rates = every(LR)
    assert (rates[0], rates[-1]) == pytest.approx((1e-4, 1e-1))
    assert min(rates) >= LR.low
    assert max(rates) <= LR.high
    factors = [b / a for a, b in itertools.pairwise(rates)]
    assert max(factors) == pytest.approx(min(factors))
    steps = np.diff(every(MOMENTUM))
    assert steps.max() == pytest.approx(steps.min())
    assert 17 <= len(rates) <= 34


def test_whole_numbers_are_whole_and_all_of_a_few():
    assert every(EPOCHS) == [1, 2, 3, 4, 5, 6, 7, 8]
    samples = every(SAMPLES)
    assert all(isinstance(n, int) for n in samples)
    assert (samples[0], samples[-1]) == (16, 4096)
    factors = [b / a for a, b in itertools.pairwise(samples)]
    assert max(factors) < 1.3


@settings(deadline=None)
@given(
    st.floats(1e-6, 1e6),
    st.floats(1e-3, 1e6),
    st.booleans(),
    st.booleans(),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_any_value_gets_the_nearest_level(low, length, log, whole, usual, at):
    if whole:
        low, length = max(1, math.floor(low)), math.ceil(length)
    place = Range("k", low, low + length, log=log, whole=whole).at
    knob = Range("k", low, low + length, log=log, whole=whole, usual=float(place(usual)))
    value = float(knob.at(at))
    alone = Levels([knob])
    values = every(knob)
    assert all(knob.low <= v <= knob.high for v in values)
    taken = float(alone.values(alone.row({"k": value}))["k"])
    nearest = min(abs(knob.place(v) - knob.place(value)) for v in values)
    assert abs(knob.place(taken) - knob.place(value)) <= nearest + 1e-12
    assert alone.values(alone.usual)["k"] == pytest.approx(float(knob.default))


def test_what_is_no_value_any_more_counts_as_the_usual_one(levels):
    row = levels.row({"strategy": "deleted", "lr": 7.0, "epochs": "many"})
    values = levels.values(row)
    assert (values["strategy"], values["lr"], values["epochs"]) == ("one-shot", pytest.approx(0.1), 1)


def test_costs_hang_on_the_priced_alone(levels):
    rows = np.stack([levels.usual, levels.row({"rank": 0.1, "lr": 0.1})])
    assert levels.choices(rows) == [{"rank": 1.0}, {"rank": pytest.approx(0.1)}]
    assert levels.changes(np.stack([levels.usual, levels.row({"lr": 0.1}), rows[1]])).tolist() == [False, False, True]
    assert Levels(KNOBS).choices(rows) is None


def test_features_are_places_and_options():
    alone = Levels([LR, STRATEGY])
    rows = np.stack([alone.row({"lr": 1e-4}), alone.row({"lr": 1e-1, "strategy": "gradual"})])
    np.testing.assert_allclose(alone.features(rows), [[0, 0.5, 0, 0], [1, 0, 0, 0.5]])
    many = Levels([Range(str(k), 0, 1) for k in range(100)])
    ends = many.features(np.stack([many.usual, many.counts - 1]))
    assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(2.0)
    assert Levels([]).features(np.zeros((5, 0), dtype=np.int64)).shape == (5, 0)


def test_away_counts_ranges_that_may_change_nothing(levels):
    rows = np.stack([levels.usual, levels.row({"rank": 0.1, "lr": 0.1})])
    np.testing.assert_allclose(levels.away(rows), [[0.0], [1.0]], atol=1e-12)


def test_scattered_levels_reach_everything_and_leave_half_as_it_is():
    knobs = [STRATEGY, LR, *(Range(f"rank.{k}", 0.1, 1.0, usual=1.0) for k in range(4))]
    drawn = Levels(knobs).scattered(4000, np.random.default_rng(0))
    ranks = drawn[:, 2:]
    for column, knob in enumerate(knobs):
        assert len(set(drawn[:, column])) == len(every(knob))
    moved = (ranks != Levels(knobs).usual[2:]).sum(axis=1)
    assert 0.5 < (moved == 0).mean() < 0.65
    assert (moved == 1).mean() > 0.08
    assert (moved == 4).mean() > 0.15


def test_moves_are_of_one_knob_and_within_its_levels(levels):
    rng = np.random.default_rng(0)
    rows = np.tile(levels.usual, (2000, 1))
    made = levels.moved(rows, rng)
    assert (rows == levels.usual).all()  # they are left alone
    differing = (made != rows).sum(axis=1)
    assert differing.max() == 1
    assert (made >= 0).all()
    assert (made < levels.counts).all()
    assert set(made[:, 5]) == {0, 1, 2}
    assert len(set(made[:, 0])) > 20
    assert np.median(np.abs(made - rows)[:, 0][made[:, 0] != rows[:, 0]]) < 10  # mostly near
    assert Levels([]).moved(np.zeros((3, 0), dtype=np.int64), rng).shape == (3, 0)


def test_trials_explore_all_regions_of_the_knobs_that_change_something():
    knobs = Levels([LR, STRATEGY, RANK], {"rank"})
    assert knobs.open.tolist() == [0, 1]  # a rank may stay where it is
    opening = [knobs.explored(number) for number in range(6)]
    first = np.array([levels for levels in opening if levels is not None])
    assert len(first) == 6
    assert set(first[:, 1]) == {0, 1, 2}
    assert set(first[:, 0] * 3 // int(knobs.counts[0])) == {0, 1, 2}
    later = [levels for number in range(6, 206) if (levels := knobs.explored(number)) is not None]
    assert len(later) == 50  # one in four goes on
    assert len({(int(level) // 3, int(option)) for level, option in later}) > 25  # of 33


def test_nothing_is_explored_where_all_knobs_may_change_nothing():
    assert Levels([RANK]).explored(0) is None
    assert Levels([]).explored(0) is None
    many = Levels([Range(str(k), 0, 1) for k in range(50)])
    assert [many.explored(number) is not None for number in (0, 11, 12, 13)] == [True, True, True, False]
