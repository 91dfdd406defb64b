"""Least squares against numpy's own, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autoprune.toolkit.least_squares import Fitting, Moments, Rectified, Rows, ridge


def rows(groups: int = 2, count: int = 300, features: int = 7, outputs: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(groups, count, features, generator=random) + 1.5
    weight = torch.randn(groups, outputs, features, generator=random)
    noise = torch.randn(groups, count, outputs, generator=random)
    return x, x @ weight.mT + 0.3 * noise - 2


def brute_force(x: np.ndarray, t: np.ndarray, near: np.ndarray, damping: float, *, centre: bool) -> np.ndarray:
    """Rows of the penalty under those of the data: numpy's least squares on the whole."""
    x, t = x.astype(np.float64), t.astype(np.float64)
    if centre:
        x, t = x - x.mean(0), t - t.mean(0)
    scale = damping * (x**2).mean(0).mean() * len(x)
    stacked = np.concatenate([x, np.sqrt(scale) * np.eye(x.shape[1])])
    right = np.concatenate([t, np.sqrt(scale) * near.T])
    return np.linalg.lstsq(stacked, right, rcond=None)[0].T


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("damping", [1e-6, 0.1, 10.0])
def test_ridge_is_least_squares_towards_the_given_weights(centre, damping):
    x, t = rows()
    near = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = ridge(Moments.of(x, t), near, damping=damping, centre=centre)
    for g in range(2):
        expected = brute_force(x[g].numpy(), t[g].numpy(), near[g].numpy(), damping, centre=centre)
        np.testing.assert_allclose(found[g].numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("count", [4, 6, 300])
def test_a_fit_to_rows_is_the_same_with_few_of_them(centre, count):
    x, t = rows(count=count)
    random = torch.Generator().manual_seed(1)
    near = torch.randn(2, 5, 7, generator=random, dtype=torch.float64)
    bias = torch.randn(2, 5, generator=random, dtype=torch.float64)
    fitting = Fitting(x, near, bias, damping=0.01, centre=centre)
    fitting.towards(t + 1)
    weight, constant = fitting.towards(t)
    for g in range(2):
        wanted = t[g].double() if centre else t[g].double() - bias[g]
        expected = brute_force(x[g].numpy(), wanted.numpy(), near[g].numpy(), 0.01, centre=centre)
        np.testing.assert_allclose(weight[g].numpy(), expected, rtol=1e-3, atol=1e-4)
    left = t.double() - x.double() @ weight.mT
    torch.testing.assert_close(constant, left.mean(1) if centre else bias, rtol=1e-4, atol=1e-4)
    off = float((left - constant.unsqueeze(1)).square().sum() / count)
    assert float(Rows(x, t).error(weight, constant)) == pytest.approx(off, rel=1e-3, abs=1e-6)


def test_behind_a_relu_what_it_makes_zero_is_right_where_zero_is():
    x, t = rows()
    random = torch.Generator().manual_seed(3)
    weight = torch.randn(2, 5, 7, generator=random, dtype=torch.float64)
    bias = torch.randn(2, 5, generator=random, dtype=torch.float64)
    gain, shift = torch.randn(2, 1, 5, generator=random), torch.randn(2, 1, 5, generator=random)
    some = Rows(x, t, Rectified(t * gain + shift, gain))
    told = x.double() @ weight.mT + bias.unsqueeze(1)
    off = (told - t).where(t * gain + shift > 0, (told * gain + shift).relu() / gain)
    assert float(some.error(weight, bias)) == pytest.approx(float(off.square().sum() / x.shape[1]), rel=1e-4)
    assert float(some.error(weight, bias)) < 0.9 * float(Rows(x, t).error(weight, bias))


def test_the_constant_is_that_of_the_rows():
    x, t = rows()
    moments = Moments.of(x[:, :100], t[:, :100]) + Moments.of(x[:, 100:], t[:, 100:])
    weight = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    left = t.double() - x.double() @ weight.mT
    bias = moments.bias(weight)
    torch.testing.assert_close(bias, left.mean(1), rtol=1e-5, atol=1e-5)


def test_a_column_that_is_always_zero_keeps_its_weight():
    x, t = rows(groups=1)
    x[..., 3] = 0
    near = torch.full((1, 5, 7), 0.25, dtype=torch.float64)
    found = ridge(Moments.of(x, t), near, damping=1e-3, centre=True)
    torch.testing.assert_close(found[..., 3], near[..., 3])


def of_sums(x, t, near, support, *, centre):
    return ridge(Moments.of(x, t), near, damping=0.01, centre=centre, support=support)


def of_rows(x, t, near, support, *, centre):
    bias = torch.zeros(near.shape[:2], dtype=torch.float64)
    return Fitting(x, near, bias, damping=0.01, centre=centre, support=support).towards(t)[0]


@pytest.mark.parametrize("fit", [of_sums, of_rows])
@pytest.mark.parametrize("centre", [True, False])
def test_a_fit_on_a_support_is_least_squares_in_its_entries(centre, fit):
    x, t = rows()
    random = torch.Generator().manual_seed(2)
    support = torch.rand(2, 5, 7, generator=random) < 0.6
    near = torch.randn(2, 5, 7, generator=random, dtype=torch.float64) * support
    found = fit(x, t, near, support, centre=centre)
    assert not found[~support].any()
    for g in range(2):
        one, two = x[g].double().numpy(), t[g].double().numpy()
        one, two = (one - one.mean(0), two - two.mean(0)) if centre else (one, two)
        scale = np.sqrt(0.01 * (one**2).mean(0).mean() * len(one))
        for o in range(5):
            entries = support[g, o].numpy()
            stacked = np.concatenate([one[:, entries], scale * np.eye(7)[entries][:, entries]])
            right = np.concatenate([two[:, o], scale * near[g, o].numpy()[entries]])
            expected = np.linalg.lstsq(stacked, right, rcond=None)[0]
            np.testing.assert_allclose(found[g, o].numpy()[entries], expected, rtol=1e-3, atol=1e-4)
