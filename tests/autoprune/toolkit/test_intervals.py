"""Intervals against scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

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


def test_where_nothing_counts_there_is_no_mean() -> None:
    """Zero would be a perfect loss."""
    for measured in (intervals.mean_of, intervals.share_of):
        found = measured(torch.ones(4), torch.zeros(4))
        assert math.isnan(found.value)
        assert found.low is None
    assert intervals.share_of(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 5.0])).value == 0.0


def test_weighted_ones_are_one() -> None:
    """And not a rounding more, which would be no share."""
    for seed in range(20):
        weights = torch.randint(1, 12, (30,), generator=torch.Generator().manual_seed(seed))
        values = torch.ones(30)
        assert intervals.mean_of(values, weights).value == 1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_shares_that_are_all_wrong_or_all_right_are_not_certain(share: float) -> None:
    """However many elements samples have: a few samples without a hit do not rule one out."""
    ours = intervals.share_of(torch.tensor([share, share, 0.0]), torch.tensor([3, 5, 0]))
    reference = intervals.proportion(int(2 * share), 2)
    assert (ours.value, ours.low, ours.high, ours.samples) == (share, reference.low, reference.high, 3)


def slope(sums: Tensor) -> Tensor:
    """Of the line through the origin that fits best, from sums of x y and x x."""
    return sums[..., 0] / sums[..., 1]


def pairs(samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.exponential(size=samples)
    return x, 2 * x + rng.normal(size=samples) * x


def slope_of(x: np.ndarray, y: np.ndarray, *, batch: int) -> intervals.Measured:
    totals = intervals.Totals()
    for part in torch.tensor(np.stack([x * y, x * x], axis=1)).split(batch):
        totals.add(part)
    return totals.measured(slope)


@pytest.mark.parametrize("samples", [40, 250])
def test_the_bootstrap_of_sums_is_scipys(samples: int) -> None:
    x, y = pairs(samples, seed=3)
    ours = slope_of(x, y, batch=17)
    assert ours.value == pytest.approx((x * y).sum() / (x * x).sum(), rel=1e-12)
    assert ours.samples == samples
    reference = stats.bootstrap(
        (x, y), lambda x, y, axis: (x * y).sum(axis) / (x * x).sum(axis), paired=True, vectorized=True,
        n_resamples=9999, method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    width = reference.high - reference.low
    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high), abs=0.08 * width)


def test_batches_change_nothing_where_each_sample_is_drawn() -> None:
    x, y = pairs(200, seed=5)
    one, other = slope_of(x, y, batch=200), slope_of(x, y, batch=7)
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("samples", [100, 3000])
def test_the_interval_covers_the_truth_as_often_as_it_says(samples: int) -> None:
    """Also where groups of samples are drawn. The standard error of a share of 400 is 0.011."""
    found = [slope_of(*pairs(samples, seed=seed), batch=512) for seed in range(400)]
    covered = np.mean([each.low <= 2 <= each.high for each in found])
    assert 0.91 <= covered <= 0.975


def test_groups_of_samples_make_no_other_interval() -> None:
    """Of 20,000 samples 256 groups are drawn: the interval is that of the normal approximation, within its noise."""
    x, y = pairs(20_000, seed=1)
    ours, estimate = slope_of(x, y, batch=500), (x * y).sum() / (x * x).sum()
    error = np.sqrt(((x * (y - estimate * x)) ** 2).sum()) / (x * x).sum()
    assert ours.high - ours.low == pytest.approx(2 * 1.96 * error, rel=0.2)


def test_what_a_resample_does_not_define_is_left_out() -> None:
    some = intervals.percentiles(1.0, [math.nan, 0.0, 1.0, 2.0, math.inf], samples=20)
    assert (some.low, some.high) == pytest.approx(tuple(np.quantile([0.0, 1.0, 2.0], [0.025, 0.975])))
    assert intervals.percentiles(1.0, [math.nan, math.nan, 1.0, 2.0], samples=20).low is None
    assert intervals.percentiles(1.0, [], samples=20) == intervals.Measured(value=1.0, samples=20)
    assert intervals.percentiles(math.nan, [1.0, 2.0], samples=20).low is None


def test_what_cannot_be_told_has_no_interval() -> None:
    """A candidate that has found nothing in a few samples must not be given up for certain."""
    assert intervals.percentiles(0.0, [0.0, 0.0, 0.0], samples=20).low is None
    assert intervals.percentiles(1.0, [1.0, 2.0, 3.0], samples=19).low is None


def test_an_interval_holds_its_value() -> None:
    found = intervals.percentiles(5.0, [1.0, 2.0, 3.0], samples=20)
    assert found.high == 5.0


def test_sums_of_nothing_are_not_defined() -> None:
    assert math.isnan(intervals.Totals().measured(slope).value)
    totals = intervals.Totals()
    totals.add(torch.zeros(3, 2))
    assert math.isnan(totals.measured(slope).value)


def test_draws_are_always_the_same() -> None:
    one, other = (torch.stack(list(intervals.draws(7, 30))) for _ in range(2))
    assert torch.equal(one, other)
    assert one.shape == (30, 7)
    assert one.min() == 0
    assert one.max() == 6
