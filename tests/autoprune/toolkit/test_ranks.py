"""Areas under ROC curves, against scikit-learn and against all pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from autoprune.toolkit.ranks import Separation


def _scores(seed: int, shift: float, count: tuple[int, int] = (60, 45)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    positives, negatives = (torch.randn(each, generator=generator) for each in count)
    return (10 * (positives + shift)).round() / 10, (10 * negatives).round() / 10  # with ties


@pytest.mark.parametrize("shift", [0.0, 0.7, 3.0])
def test_the_area_is_scikit_learns(shift: float) -> None:
    positives, negatives = _scores(0, shift)
    expected = roc_auc_score([1] * len(positives) + [0] * len(negatives), torch.cat([positives, negatives]))
    found = Separation.of(positives, negatives)
    assert found.auc().value == pytest.approx(expected)
    assert float(found.below.mean()) == pytest.approx(expected)


def test_the_variance_is_delongs() -> None:
    positives, negatives = _scores(1, 0.8)
    pairs = np.array([[(p > n) + 0.5 * (p == n) for n in negatives.tolist()] for p in positives.tolist()], dtype=float)
    variance = pairs.mean(1).var(ddof=1) / len(positives) + pairs.mean(0).var(ddof=1) / len(negatives)
    found = Separation.of(positives, negatives).auc()
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * variance**0.5, rel=1e-6)
    assert found.samples == 105


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held, apart, truth = 0, 0, 0.5 * (1 + torch.erf(torch.tensor(0.8 / 2))).item()
    for seed in range(400):
        generator = torch.Generator().manual_seed(seed)
        positives, negatives = torch.randn(150, generator=generator) + 0.8, torch.randn(150, generator=generator)
        found = Separation.of(positives, negatives)
        auc = found.auc()
        held += auc.low <= truth <= auc.high  # type: ignore[operator]
        # Another model of the same quality, nearly the same scores.
        noise = [0.5 * torch.randn(150, generator=generator) for _ in range(4)]
        one = Separation.of(positives + noise[0], negatives + noise[1])
        two = Separation.of(positives + noise[2], negatives + noise[3])
        apart += one.difference(two).told_apart
    assert 0.92 <= held / 400 <= 0.98
    assert 0.02 <= apart / 400 <= 0.08


def test_what_is_wholly_apart_has_no_interval() -> None:
    found = Separation.of(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])).auc()
    assert (found.value, found.low, found.high) == (1.0, None, None)
