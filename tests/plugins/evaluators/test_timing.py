"""Measuring in turn: order, for how long, and intervals that hold where the machine drifts."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from autoprune_evaluators import _timing
from autoprune_evaluators._timing import Pairs, in_turn, middle


def test_order_alternates_and_pairs_match() -> None:
    clock = itertools.count(1)
    pairs = in_turn(lambda: float(next(clock)), lambda: float(next(clock)), repeats=3, seconds=0)
    assert (pairs.ours, pairs.dense) == ([1, 4, 5, 8], [2, 3, 6, 7])


def test_it_goes_on_for_the_asked_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count()
    monkeypatch.setattr(_timing, "time", SimpleNamespace(perf_counter=lambda: float(next(seconds))))
    pairs = in_turn(lambda: 1.0, lambda: 2.0, repeats=2, seconds=3.5)
    assert (len(pairs.ours), len(pairs.dense)) == (8, 8)  # the clock is read before the first round and after each


def drifting(share: float) -> Pairs:
    """Of the dense model against itself, where one of the two is always slower by a share at first."""
    calls = itertools.count()
    return in_turn(lambda: 1 + share if next(calls) < 8 else 1.0, lambda: 1.0, repeats=8, seconds=0, of_dense=share > 0)


def test_the_dense_model_is_timed_on_until_it_is_as_quick_as_itself() -> None:
    pairs = drifting(0.5)
    assert len(pairs.ours) > 8
    assert pairs.ratio.low is not None
    assert pairs.ratio.low <= 1


def test_where_it_never_is_it_ends_and_says_so() -> None:
    clock = itertools.cycle([0.001, 0.002])
    pairs = in_turn(lambda: 1.5 + next(clock), lambda: 1.0, repeats=8, seconds=0, of_dense=True)
    assert len(pairs.ours) == 5 * 8
    assert pairs.ratio.low is not None
    assert pairs.ratio.low > 1


def test_the_middle_of_parts_in_a_row_by_scipy() -> None:
    values = [4.0, 1.0, 2.0, 3.0, 5.0, 2.5, 8.0, 0.5, 3.5, 1.5, 2.2, 2.8, 6.0, 0.7, 3.1, 2.9]
    logs = np.log(values)
    medians = np.median(logs.reshape(8, 2), axis=1)
    half = stats.t.ppf(0.975, 7) * medians.std(ddof=1) / math.sqrt(8)
    found = middle(values)
    assert found.samples == 16
    assert (found.value, found.low, found.high) == pytest.approx(
        tuple(np.exp([np.median(logs), np.median(logs) - half, np.median(logs) + half])), rel=1e-3
    )


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_intervals_cover_the_middle_even_of_noise_that_remembers(memory: float) -> None:
    random, hits, tries = np.random.default_rng(0), 0, 400
    for _ in range(tries):
        noise, value = [], random.normal() / math.sqrt(1 - memory**2)
        for _ in range(160):
            value = memory * value + random.normal()
            noise.append(math.exp(0.05 * value))
        found = middle(noise)
        hits += found.low <= 1 <= found.high
    assert hits / tries > 0.9


def test_two_metrics_with_how_far_they_are_from_the_dense_model() -> None:
    pairs = Pairs([2.0, 2.2, 1.8, 2.0], [4.0, 4.0, 4.0, 4.0])
    found = pairs.measured("ms", "ratio", of_dense=False)
    assert (found["ms"].value, found["ratio"].value) == pytest.approx((2.0, 0.5))
    assert (found["ms"].difference.value, found["ratio"].difference.value) == pytest.approx((-2.0, -0.5))
    assert found["ms"].difference.told_apart
    assert pairs.gain.value == pytest.approx(2.0)
    assert all(each.difference is None for each in pairs.measured("ms", "ratio", of_dense=True).values())
