"""Norm balls: even noise, the steepest step and the nearest perturbation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autoprune.toolkit.balls import L2, Ball, Linf


def size(ball: Ball, perturbation: Tensor) -> Tensor:
    """The norm that the ball is of, (N,)."""
    flat = perturbation.flatten(1)
    return flat.abs().amax(1) if isinstance(ball, Linf) else flat.norm(dim=1)


@pytest.mark.parametrize("ball", [Linf(0.5), L2(0.5)])
def test_noise_fills_the_ball_evenly(ball: Ball) -> None:
    noise = ball.noise(torch.zeros(4000, 1, 1, 2), torch.Generator().manual_seed(0))
    assert size(ball, noise).max() <= 0.5 + 1e-6
    # In two dimensions a quarter of either ball is within half its size.
    assert float((size(ball, noise) < 0.25).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert noise.flatten(1).mean(0).abs().max() < 0.02


def test_a_gradient_of_zero_moves_nothing() -> None:
    for ball in (Linf(0.1), L2(0.1)):
        assert torch.equal(ball.steepest(torch.zeros(2, 3)), torch.zeros(2, 3))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.sampled_from([Linf(0.3), L2(0.3)]))
def test_no_other_step_of_norm_one_climbs_more_and_no_other_point_is_nearer(seed: int, ball: Ball) -> None:
    generator = torch.Generator().manual_seed(seed)
    gradient, others = torch.randn(1, 2, 3, generator=generator), torch.randn(200, 2, 3, generator=generator)
    others = others / size(ball, others)[:, None, None]
    step = ball.steepest(gradient)
    assert float(size(ball, step)) == pytest.approx(1, abs=1e-5)
    assert (others * gradient).sum((1, 2)).max() <= (step * gradient).sum() + 1e-5
    projected = ball.project(gradient)
    assert size(ball, projected) <= 0.3 + 1e-6
    nearest = (0.3 * others - gradient).flatten(1).norm(dim=1).min()
    assert (projected - gradient).norm() <= nearest + 1e-5
    assert torch.allclose(ball.project(projected), projected)
