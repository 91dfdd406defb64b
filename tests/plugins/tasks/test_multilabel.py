"""Several labels per sample against scikit-learn and loops, and what is refused."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, rel_entr
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor

from autoprune import TrialError
from autoprune.plugin import Data, Split
from autoprune_tasks.multilabel import Multilabel

from .cases import classes, noise

TASK = Multilabel()
numbers, whole = torch.zeros, partial(torch.zeros, dtype=torch.int64)


@pytest.fixture
def data() -> Data:
    split = Split.of_tensors(torch.zeros(4, 2), torch.zeros(4))
    return Data(split, split, split)


def known(scores: Tensor, targets: Tensor) -> list[tuple[Any, Any]]:
    """Of each sample, scores and targets of the labels that somebody knows."""
    pairs = zip(scores.double().flatten(1).numpy(), targets.flatten(1).numpy(), strict=True)
    return [(row[wanted != -100], wanted[wanted != -100]) for row, wanted in pairs]


@pytest.mark.parametrize("kind", [torch.int64, torch.float32, torch.int32])
def test_the_loss_is_the_mean_binary_cross_entropy_of_what_is_known(kind: torch.dtype) -> None:
    scores, targets = 3 * noise(20, 6), classes(20, 6, count=2)
    loss = TASK.loss(scores, targets.to(kind))
    assert loss.shape == (20,)
    assert torch.equal(TASK.training_loss(scores, targets.to(kind)), loss)
    assert torch.equal(TASK.counted(scores, targets), (targets != -100).sum(1))
    expected = [log_loss(y, expit(s), labels=[0, 1]) if len(y) else 0 for s, y in known(scores, targets)]
    assert loss.tolist() == pytest.approx(expected, rel=1e-5)
    assert loss[-1] == 0


def test_the_loss_is_differentiable_and_what_nobody_knows_has_no_gradient() -> None:
    scores, targets = noise(20, 6).requires_grad_(), classes(20, 6, count=2)
    (gradient,) = torch.autograd.grad(TASK.loss(scores, targets).sum(), scores)
    counting = targets != -100
    by_hand = (scores.detach().sigmoid() - targets) / counting.sum(1, keepdim=True).clamp_min(1)
    assert torch.allclose(gradient, by_hand.where(counting, 0.0), atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(0.01, 20))
def test_divergence_is_the_relative_entropy_of_each_label(seed: int, scale: float) -> None:
    ours, dense = (scale * noise(4, 5, seed=each) for each in (seed, seed + 1))
    found = TASK.divergence(ours, dense)
    p, q = (expit(each.double().numpy()) for each in (dense, ours))
    p_no, q_no = (expit(-each.double().numpy()) for each in (dense, ours))
    expected = (rel_entr(p, q) + rel_entr(p_no, q_no)).mean(1)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-6, abs=1e-12)
    targets = classes(4, 5, count=2)
    for row, sample in enumerate(TASK.divergence(ours, dense, targets)):
        each = (rel_entr(p, q) + rel_entr(p_no, q_no))[row][targets[row].numpy() != -100]
        assert float(sample) == pytest.approx(each.mean() if len(each) else 0, rel=1e-6, abs=1e-12)


def test_divergence_is_zero_of_equals_and_bears_what_is_ruled_out() -> None:
    dense = 10 * noise(100, 8)
    assert TASK.divergence(dense, dense).tolist() == [0.0] * 100
    assert (TASK.divergence(dense + 1e-7, dense) >= 0).all()
    sure = torch.tensor([[math.inf, -math.inf, 0.0]])
    assert TASK.divergence(sure, sure).tolist() == [0.0]
    assert TASK.divergence(torch.tensor([[40.0, -40.0, 0.0]]), sure).tolist() == pytest.approx([0.0], abs=1e-12)
    assert TASK.divergence(torch.tensor([[-math.inf, 0.0, 0.0]]), sure).tolist() == [math.inf]


@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.9])
def test_a_label_is_predicted_above_the_threshold(threshold: float) -> None:
    task, scores, dense, targets = (
        Multilabel(threshold=threshold),
        noise(20, 6),
        noise(20, 6, seed=7),
        classes(20, 6, count=2),
    )
    right = task.correct(scores, targets)
    expected = [accuracy_score(y, expit(s) > threshold) if len(y) else 0 for s, y in known(scores, targets)]
    assert right.tolist() == pytest.approx(expected)
    alike = [
        accuracy_score(expit(d) > threshold, expit(s) > threshold)
        for s, d in zip(scores.numpy(), dense.numpy(), strict=True)
    ]
    assert task.agreement(scores, dense).tolist() == pytest.approx(alike)
    for row, share in enumerate(task.agreement(scores, dense, targets)):
        counting = targets[row] != -100
        same = ((scores[row].sigmoid() > threshold) == (dense[row].sigmoid() > threshold))[counting]
        assert float(share) == pytest.approx(float(same.float().mean()) if len(same) else 0)


def test_an_output_that_is_nan_is_wrong_whatever_the_target() -> None:
    assert TASK.correct(torch.full((2, 1), math.nan), torch.tensor([[0], [1]])).tolist() == [0, 0]


def test_true_and_false_are_one_and_zero() -> None:
    scores, targets = noise(5, 3), noise(5, 3, seed=3) > 0
    assert torch.equal(TASK.loss(scores, targets), TASK.loss(scores, targets.long()))
    assert torch.equal(TASK.correct(scores, targets), TASK.correct(scores, targets.long()))
    assert TASK.counted(scores, targets).tolist() == [3] * 5


@pytest.mark.parametrize(
    "shapes",
    [((4, 3),) * 2, ((4, 1), (4,)), ((4,), (4, 1)), ((4,),) * 2, ((4, 1, 5), (4, 5)), ((4, 3, 5),) * 2, ((1, 2),) * 2],
)
def test_labels_may_be_of_several_dimensions(shapes: tuple[tuple[int, ...], ...], data: Data) -> None:
    outputs, targets = noise(*shapes[0]), classes(*shapes[1], count=2, ignored=None)
    assert TASK.refuses(outputs, targets, data) is None
    rows, wanted = outputs.flatten(1) if outputs.dim() > 1 else outputs[:, None], targets.reshape(len(targets), -1)
    assert torch.allclose(TASK.loss(outputs, targets), TASK.loss(rows, wanted))
    assert torch.equal(TASK.correct(outputs, targets), ((rows > 0) == wanted).float().mean(1))
    assert TASK.divergence(outputs, outputs).tolist() == [0.0] * len(outputs)


@pytest.mark.parametrize("wrong", [2, -1, 0.5, math.nan])
def test_what_is_neither_yes_nor_no_fails_the_trial(wrong: float, data: Data) -> None:
    scores, targets = noise(4, 3), classes(4, 3, count=2, ignored=None).float()
    targets[2, 1] = wrong
    for ask in (TASK.loss, TASK.correct):
        with pytest.raises(TrialError, match=rf"^multilabel: a target is {wrong:g}; .* 0 or 1"):
            ask(scores, targets)
    assert f"a target is {wrong:g}" in str(TASK.refuses(scores, targets, data))
    assert Multilabel(ignore_index=-1).refuses(scores, classes(4, 3, count=2, ignored=-1), data) is None


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_more(kind: torch.dtype) -> None:
    scores, dense, targets = noise(20, 6).to(kind), noise(20, 6, seed=5).to(kind), classes(20, 6, count=2)
    assert torch.equal(TASK.loss(scores, targets), TASK.loss(scores.float(), targets))
    assert torch.equal(TASK.divergence(scores, dense), TASK.divergence(scores.float(), dense.float()))
    assert torch.equal(TASK.correct(scores, targets), TASK.correct(scores.float(), targets))


@pytest.mark.parametrize(
    ("outputs", "targets", "told"),
    [
        (numbers(4, 3), whole(4), ["targets are (4,) int64", "outputs (4, 3) float32", "task: {use: classification}"]),
        (numbers(4, 3, 8, 8), whole(4, 8, 8), ["(4, 8, 8) int64", "task: {use: segmentation}"]),
        (numbers(4, 3), numbers(4, 2), ["(4, 2) float32", "in the shape of the outputs"]),
        (numbers(4, 1), numbers(1, 4), ["(1, 4) float32", "in the shape of the outputs"]),
        (whole(4, 3), whole(4, 3), ["outputs are (4, 3) int64", "return scores"]),
        (numbers(4, 3) - 1, {"a": numbers(4, 3)}, ["{a: (4, 3) float32}", "heads: {a: {use: …}}"]),
        (numbers(4, 3) - 1, {}, ["the data has no targets", "task: {use: embedding}"]),
        (numbers(4, 3) - 1, whole(4, 3) - 100, ["nothing of the first 4 samples counts", "every target is -100"]),
        (numbers(4, 3) - 1, numbers(4, 3) + 7.5, ["a target is 7.5", "the option ignore_index", "{use: regression}"]),
        (torch.rand(4, 5), whole(4, 5), ["all of them from 0 to 1", "leave the sigmoid out of the model"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(outputs: Tensor, targets: Any, told: list[str], data: Data) -> None:
    reason = TASK.refuses(outputs, targets, data)
    assert reason is not None
    assert "\n" not in reason
    for part in told:
        assert part in reason
