"""Differences on the same samples, against the definitions they come from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from autoprune.toolkit import paired
from autoprune.toolkit.intervals import Totals

Z = stats.norm.ppf(0.975)


def score(gained: int, lost: int, samples: int, difference: float) -> float:
    """The score statistic with the constrained maximum of the likelihood found by search."""

    def unlikely(wrong: float) -> float:
        right, same = wrong + difference, 1 - 2 * wrong - difference
        terms = ((gained, right), (lost, wrong), (samples - gained - lost, same))
        return -sum(count * math.log(max(share, 1e-300)) for count, share in terms if count)

    least, most = max(0.0, -difference), (1 - difference) / 2
    wrong = optimize.minimize_scalar(unlikely, bounds=(least, most), method="bounded", options={"xatol": 1e-12}).x
    deviation = math.sqrt(samples * (2 * wrong + difference - difference**2))
    return (gained - lost - samples * difference) / deviation


@pytest.mark.parametrize(
    ("gained", "lost", "samples"), [(12, 5, 100), (0, 7, 60), (1, 1, 40), (30, 2, 50), (3, 40, 1000)]
)
def test_ends_are_where_the_score_test_begins_to_reject(gained: int, lost: int, samples: int) -> None:
    found = paired.of_counts(gained, lost, samples)
    assert found.value == pytest.approx((gained - lost) / samples)
    assert found.low is not None
    assert found.high is not None
    assert score(gained, lost, samples, found.low) == pytest.approx(Z, abs=1e-3)
    assert score(gained, lost, samples, found.high) == pytest.approx(-Z, abs=1e-3)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 200))
def test_zero_is_outside_just_where_mcnemars_test_rejects(gained: int, lost: int, same: int) -> None:
    samples = gained + lost + same
    if not samples:
        return
    found = paired.of_counts(gained, lost, samples)
    assert found.low is not None
    assert found.high is not None
    assert -1 <= found.low <= found.value <= found.high <= 1
    chi2 = (gained - lost) ** 2 / max(gained + lost, 1)
    assert found.told_apart == (chi2 > Z**2)
    other = paired.of_counts(lost, gained, samples)
    assert (other.low, other.high) == pytest.approx((-found.high, -found.low))


def test_the_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    random, held = np.random.default_rng(0), 0
    for gained, lost, _ in random.multinomial(150, (0.05, 0.12, 0.83), size=2000):
        found = paired.of_counts(int(gained), int(lost), 150)
        held += found.low <= 0.05 - 0.12 <= found.high
    assert 0.94 <= held / 2000 <= 0.965


def test_means_are_those_of_the_differences() -> None:
    torch.manual_seed(0)
    values, dense, ones = torch.randn(80), torch.randn(80), torch.ones(80)
    found = paired.of_means(values, dense, ones)
    each = (values - dense).double().numpy()
    half = Z * each.std(ddof=1) / math.sqrt(80)
    assert (found.value, found.low, found.high) == pytest.approx((each.mean(), each.mean() - half, each.mean() + half))


def test_shares_are_counted_where_samples_are_right_or_wrong_as_a_whole() -> None:
    right, dense, ones = torch.tensor([1.0, 0, 1, 1, 0] * 8), torch.tensor([1.0, 1, 1, 0, 0] * 8), torch.ones(40)
    assert paired.of_shares(right, dense, ones) == paired.of_counts(8, 8, 40)
    halves = paired.of_shares(0.5 * right, dense, ones)
    assert halves == paired.of_means(0.5 * right, dense, ones)
    assert paired.of_shares(right, dense, torch.arange(40) + 1.0) != paired.of_counts(8, 8, 40)


def test_of_totals_samples_are_drawn_in_pairs() -> None:
    torch.manual_seed(0)
    truth, noise = torch.randn(200), torch.randn(200)

    def totals(predicted: torch.Tensor) -> Totals:
        made = Totals()
        made.add(torch.stack([(predicted - truth).square(), torch.ones(200)], dim=1))
        return made

    def value(sums: torch.Tensor) -> torch.Tensor:
        return (sums[..., 0] / sums[..., 1]).sqrt()

    mine, theirs = totals(truth + noise), totals(truth + 1.1 * noise)
    found = mine.difference(theirs, value)
    assert found is not None
    rms = float(noise.square().mean().sqrt())
    assert found.value == pytest.approx(-0.1 * rms, rel=1e-5)
    assert found.told_apart
    # Each is known within .1; their difference, of like errors, within a tenth of that.
    own = mine.measured(value)
    assert found.high - found.low == pytest.approx(0.1 * (own.high - own.low), rel=1e-3)
    alike = mine.difference(totals(truth + noise), value)
    assert alike is not None
    assert alike.value == 0.0
    assert not alike.told_apart
    assert mine.difference(Totals(), value) is None
