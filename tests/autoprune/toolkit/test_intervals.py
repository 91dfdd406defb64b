"""Intervals against scipy's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from autoprune.toolkit import intervals


@settings(deadline=None)
@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson(case: tuple[int, int]) -> None:
    successes, samples = case
    ours = intervals.proportion(successes, samples)
    reference = stats.binomtest(successes, samples).proportion_ci(confidence_level=0.95, method="wilson")
    assert ours.value == successes / samples
    assert ours.samples == samples
    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high), abs=1e-12)
    assert ours.low is not None
    assert ours.high is not None
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


@settings(deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=50, unique=True))
def test_mean(values: list[int]) -> None:
    spread = stats.tstd(values)
    ours = intervals.mean(sum(values) / len(values), deviation=float(spread), samples=len(values))
    low, high = stats.norm.interval(0.95, loc=ours.value, scale=stats.sem(values))
    assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-9, abs=1e-9)


def test_one_sample_has_a_mean_and_no_interval() -> None:
    ours = intervals.mean(2.5, deviation=0.0, samples=1)
    assert (ours.value, ours.low, ours.high, ours.samples) == (2.5, None, None, 1)


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_shares_of_whole_samples_have_wilsons_interval(right: list[bool]) -> None:
    assert intervals.share_of(torch.tensor(right).float()) == intervals.proportion(sum(right), len(right))


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), min_size=1, max_size=50).map(lambda s: [0.5, *s]))
def test_shares_of_many_elements_have_the_normal_interval_within_bounds(shares: list[float]) -> None:
    ours = intervals.share_of(torch.tensor(shares, dtype=torch.float64))
    assert ours.value == pytest.approx(sum(shares) / len(shares))
    assert ours.samples == len(shares)
    half = 1.959963984540054 * stats.sem(shares)
    assert (ours.low, ours.high) == pytest.approx((max(0, ours.value - half), min(1, ours.value + half)), abs=1e-9)


def test_one_share_has_no_interval() -> None:
    assert intervals.share_of(torch.tensor([0.5])).low is None
    assert intervals.mean_of(torch.tensor([2.5])) == intervals.mean(2.5, deviation=0.0, samples=1)


def test_the_mean_of_samples_is_that_of_their_deviation() -> None:
    values = torch.tensor([1.0, 4.0, 2.5])
    assert intervals.mean_of(values) == intervals.mean(2.5, deviation=float(stats.tstd([1, 4, 2.5])), samples=3)
