"""Regression against numpy and scikit-learn, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_squared_error, r2_score
from torch import Tensor

from autoprune import TrialError
from autoprune.plugin import Data, Split
from autoprune_tasks.regression import Regression

TASK = Regression()


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def data() -> Data:
    split = Split.of_tensors(torch.zeros(4, 2), torch.zeros(4))
    return Data(split, split, split)


@pytest.mark.parametrize("shape", [(20,), (20, 1), (20, 3), (20, 2, 4)])
def test_the_loss_is_the_mean_squared_error_of_each_sample(shape: tuple[int, ...]) -> None:
    outputs, targets = some(*shape), some(*shape, seed=1)
    loss = TASK.loss(outputs, targets)
    assert loss.shape == (20,)
    flat = [tensor.reshape(20, -1).numpy() for tensor in (outputs, targets)]
    assert loss.tolist() == pytest.approx([mean_squared_error(t, o) for o, t in zip(*flat, strict=True)], rel=1e-5)
    assert TASK.correct(outputs, targets) is None


def test_a_column_and_a_row_are_the_same_numbers() -> None:
    column, row = some(20, 1), some(20, seed=1)
    expected = (column[:, 0] - row).square()
    assert torch.equal(TASK.loss(column, row), expected)
    assert torch.equal(TASK.loss(column[:, 0], row[:, None]), expected)


def test_the_loss_is_differentiable() -> None:
    outputs, targets = some(6, 2).requires_grad_(), some(6, 2, seed=1)
    (gradient,) = torch.autograd.grad(TASK.loss(outputs, targets).sum(), outputs)
    assert torch.allclose(gradient, (outputs - targets).detach())  # of two numbers, half of twice the difference


def test_divergence_is_what_scikit_learn_calls_unexplained() -> None:
    """1 - R² with the dense outputs as the truth, each position by itself."""
    dense, ours = some(50, 3) * torch.tensor([1.0, 1e4, 1e-4]), some(50, 3, seed=1) * torch.tensor([1.0, 1e4, 1e-4])
    found = TASK.divergence(ours + 7, dense + 7)
    assert found.shape == (50,)
    assert found.dtype == torch.float64
    unexplained = 1 - r2_score(dense.numpy() + 7, ours.numpy() + 7, multioutput="raw_values")
    assert float(found.mean()) == pytest.approx(float(unexplained.mean()), rel=1e-3)


def test_neither_scale_nor_offset_of_the_numbers_matters() -> None:
    dense, ours = some(30, 2).double(), some(30, 2, seed=1).double()
    expected = TASK.divergence(ours, dense)
    assert torch.allclose(TASK.divergence(1e3 * ours - 50, 1e3 * dense - 50), expected)
    assert float(TASK.divergence(torch.zeros(30, 2), dense - dense.mean(0)).mean()) == pytest.approx(1)


def test_outputs_that_are_the_same_for_all_samples_are_compared_with_themselves() -> None:
    dense = torch.tensor([[5.0, 0.0]]).expand(6, 2)
    assert TASK.divergence(dense, dense).tolist() == [0.0] * 6
    assert TASK.divergence(dense + torch.tensor([0.5, 0.0]), dense).tolist() == pytest.approx([0.005] * 6)
    assert TASK.divergence(dense + torch.tensor([0.0, 2.0]), dense).tolist() == pytest.approx([2.0] * 6)
    # A batch of one has no variance, and rounding is none.
    assert TASK.divergence(torch.tensor([[2.0]]), torch.tensor([[1.0]])).tolist() == [1.0]
    assert TASK.divergence(torch.tensor([0.1, 0.1 + 1e-8]), torch.tensor([0.1 + 1e-8, 0.1])).max() < 1e-10


def test_agreement_falls_from_one() -> None:
    dense = some(40, 2)
    assert TASK.agreement(dense, dense).tolist() == [1.0] * 40
    deviation = torch.from_numpy(np.std(dense.numpy(), axis=0))
    assert TASK.agreement(dense + deviation, dense).tolist() == pytest.approx([0.5] * 40, rel=1e-5)
    assert TASK.agreement(dense + 100, dense).max() < 0.01


@pytest.mark.parametrize(
    "shapes", [((4,), (5,)), ((4, 3), (4,)), ((4, 1), (1, 4)), ((4, 2, 3), (4, 6)), ((4, 1), ()), ((), ())]
)
def test_shapes_that_would_broadcast_are_refused(shapes: tuple[tuple[int, ...], ...], data: Data) -> None:
    outputs, targets = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(TrialError, match="regression takes the same shape of both"):
        TASK.loss(outputs, targets)
    reason = TASK.refuses(outputs, targets, data)
    assert reason is not None
    assert f"targets are {shapes[1]} float32 and outputs {shapes[0]} float32" in reason


@pytest.mark.parametrize(
    ("outputs", "targets", "told"),
    [
        (torch.zeros(4, 10), torch.zeros(4, dtype=torch.int64), ["(4,) int64", "task: {use: classification}"]),
        (torch.zeros(4, 3), torch.zeros(4, 3, dtype=torch.int64), ["(4, 3) int64", "task: {use: multilabel}"]),
        (torch.zeros(4, 3, 8, 8), torch.zeros(4, 8, 8, dtype=torch.int64), ["(4, 8, 8) int64", "use: segmentation"]),
        (torch.zeros(4, 8, 30), torch.zeros(4, 8, dtype=torch.int64), ["(4, 8) int64", "use: causal-lm"]),
        (torch.zeros(4, dtype=torch.int64), torch.zeros(4), ["outputs (4,) int64", "return numbers"]),
        (torch.zeros(4), {"a": torch.zeros(4)}, ["{a: (4,) float32}", "use: multi-head, heads: {a: {use: …}}"]),
        (torch.zeros(4), {}, ["no targets", "{use: embedding}"]),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(outputs: Tensor, targets: Any, told: list[str], data: Data) -> None:
    reason = TASK.refuses(outputs, targets, data)
    assert reason is not None
    assert "\n" not in reason
    for part in told:
        assert part in reason


@pytest.mark.parametrize(
    "shapes", [((4,), (4,)), ((4, 1), (4,)), ((4,), (4, 1)), ((4, 2, 3), (4, 2, 3)), ((1, 1), (1,))]
)
def test_what_fits_is_not_refused(shapes: tuple[tuple[int, ...], ...], data: Data) -> None:
    outputs, targets = (torch.zeros(shape) for shape in shapes)
    assert TASK.refuses(outputs, targets, data) is None
    assert TASK.loss(outputs, targets).shape == shapes[0][:1]


def test_what_training_minimises_hangs_on_no_scale():
    random = torch.Generator().manual_seed(0)
    targets = torch.randn(16, 3, generator=random)
    outputs = targets + torch.randn(16, 3, generator=random)
    expected = ((outputs - targets).square() / targets.var(0, correction=0)).mean(1)
    scale, offset = torch.tensor([1.0, 20.0, 0.01]), torch.tensor([0.0, 500.0, 1.0])
    for task_outputs, task_targets in ((outputs, targets), (outputs * scale + offset, targets * scale + offset)):
        torch.testing.assert_close(
            Regression().training_loss(task_outputs, task_targets), expected, rtol=1e-3, atol=1e-3
        )
