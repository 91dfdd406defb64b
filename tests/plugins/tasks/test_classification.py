"""Classification against torch, scipy and scikit-learn, and what it refuses."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor
from torch.nn.functional import cross_entropy

from autoprune import TrialError
from autoprune.plugin import Data, Split, Task
from autoprune_tasks.classification import Classification

TASK = Classification()
numbers, whole = torch.zeros, partial(torch.zeros, dtype=torch.int64)


def some(samples: int = 40, classes: int = 5, seed: int = 0, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = scale * torch.randn(samples, classes, generator=generator)
    return scores, torch.randint(0, classes, (samples,), generator=generator)


def data(classes: int | None = 5) -> Data:
    split = Split.of_tensors(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
    return Data(split, split, split, classes=classes)


def test_the_loss_is_the_cross_entropy_of_each_sample() -> None:
    scores, targets = some()
    assert TASK.loss(scores, targets).shape == (40,)
    for row, target, loss in zip(scores.double().numpy(), targets, TASK.loss(scores, targets), strict=True):
        assert float(loss) == pytest.approx(log_loss([int(target)], [softmax(row)], labels=range(5)), rel=1e-5)


def test_the_loss_is_differentiable_and_training_alone_smooths_it() -> None:
    scores, targets = some()
    smooth = Classification(label_smoothing=0.2)
    assert torch.equal(smooth.loss(scores, targets), TASK.loss(scores, targets))
    assert torch.equal(TASK.training_loss(scores, targets), TASK.loss(scores, targets))
    wanted = 0.8 * torch.eye(5)[targets] + 0.2 / 5
    by_hand = -(wanted * scores.log_softmax(1)).sum(1)
    assert torch.allclose(smooth.training_loss(scores, targets), by_hand, atol=1e-5)
    (gradient,) = torch.autograd.grad(TASK.loss(scores.requires_grad_(), targets).sum(), scores)
    assert torch.allclose(gradient, scores.softmax(1) - torch.eye(5)[targets], atol=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.integers(2, 8), st.floats(0.01, 30))
def test_divergence_is_the_relative_entropy(seed: int, classes: int, scale: float) -> None:
    ours, _ = some(6, classes, seed, scale)
    dense, _ = some(6, classes, seed + 1, scale)
    found = TASK.divergence(ours, dense)
    p, q = softmax(dense.double().numpy(), 1), softmax(ours.double().numpy(), 1)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(rel_entr(p, q).sum(1).tolist(), rel=1e-6, abs=1e-12)


def test_divergence_is_zero_of_equals_never_below_and_fine() -> None:
    dense, _ = some(1000, 10, scale=10)
    assert TASK.divergence(dense, dense).tolist() == [0.0] * 1000
    assert (TASK.divergence(dense + 1e-7, dense) >= 0).all()
    step = 1e-4 * torch.randn(1000, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    small, half = (float(TASK.divergence(dense.double() + s * step, dense.double()).sum()) for s in (1, 0.5))
    assert small / half == pytest.approx(4, rel=1e-2)  # quadratic in small changes, which float32 could not tell
    # A constant added to all scores changes nothing.
    assert TASK.divergence(dense + 100, dense).max() < 1e-6


def test_correct_and_agreement_are_those_of_the_largest_score() -> None:
    scores, targets = some(200)
    dense, _ = some(200, seed=9)
    right = TASK.correct(scores, targets)
    assert set(right.tolist()) == {0.0, 1.0}
    assert float(right.mean()) == pytest.approx(accuracy_score(targets, scores.argmax(1)))
    agreement = TASK.agreement(scores, dense)
    assert float(agreement.mean()) == pytest.approx(np.mean(scores.numpy().argmax(1) == dense.numpy().argmax(1)))


def test_an_output_with_nan_is_wrong() -> None:
    nan = math.nan
    scores = torch.tensor([[nan, nan], [1.0, 0.0], [nan, 1.0], [-math.inf, 0.0]])
    assert TASK.correct(scores, torch.tensor([0, 0, 1, 1])).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("wrong", [5, 17, -1, -100])
def test_a_class_that_the_model_does_not_know_fails_the_trial(wrong: int) -> None:
    """PyTorch would pass over -100 in silence; a comparison counts any of them as a wrong prediction."""
    scores, targets = some()
    targets[7] = wrong
    for ask in (TASK.loss, TASK.training_loss, TASK.correct):
        with pytest.raises(TrialError, match=rf"class {wrong}, but the model has 5 outputs: classes are 0 to 4"):
            ask(scores, targets)
    assert f"class {wrong}" in str(TASK.refuses(scores, targets, data()))


def test_what_fits_is_not_refused() -> None:
    scores, targets = some()
    for classes in (5, 3, None):
        assert TASK.refuses(scores, targets, data(classes)) is None


@pytest.mark.parametrize(
    ("outputs", "targets", "told"),
    [
        (numbers(4, 1), numbers(4), ["(4, 1) float32", "one number per sample", "use: regression", "use: multilabel"]),
        (numbers(4), whole(4), ["outputs (4) float32", "task: {use: regression}"]),
        (numbers(4, 7, 50), whole(4, 7), ["{use: causal-lm}", "{use: masked-lm}", "{use: seq2seq-lm}"]),
        (numbers(4, 50, 7), whole(4, 7), ["(4, 50, 7) float32", "{use: segmentation}"]),
        (numbers(4, 3, 8, 8), whole(4, 8, 8), ["(4, 3, 8, 8) float32", "{use: segmentation}"]),
        (numbers(4, 3, 8, 8), whole(4), ["(4, 3, 8, 8) float32", "let the model pool"]),
        (numbers(4, 3), numbers(4, 3), ["(4, 3) float32", "use: regression", "task: {use: multilabel}"]),
        (numbers(4, 3), numbers(4), ["targets are (4) float32", "use: regression", "as int64"]),
        (numbers(4, 3), torch.zeros(4, dtype=torch.int32), ["(4) int32", "as int64"]),
        (numbers(4, 3), whole(4, 1), ["(4, 1) int64", "second dimension"]),
        (numbers(4, 3), whole(4, 3), ["(4, 3) int64", "task: {use: multilabel}"]),
        (numbers(4, 3), whole(3), ["(3) int64", "(4, 3) float32", "one class for each sample"]),
        (numbers(4, 3), {"boxes": numbers(4, 2)}, ["{boxes: (4, 2) float32}", "heads: {boxes: {use: …}}"]),
        (numbers(4, 3), {}, ["the data has no targets", "task: {use: embedding}"]),
        (numbers(4, 3), [0, 1, 2, 0], ["targets are list", "give a tensor"]),
        (whole(4, 3), whole(4), ["(4, 3) int64", "return scores"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(outputs: Tensor, targets: Any, told: list[str]) -> None:
    reason = TASK.refuses(outputs, targets, data(None))
    assert reason is not None
    assert "\n" not in reason
    assert "one class per sample" in reason
    for part in told:
        assert part.replace("(4)", "(4,)").replace("(3)", "(3,)") in reason


def test_more_classes_than_outputs_are_refused_though_the_batch_has_few() -> None:
    scores, targets = some()
    reason = TASK.refuses(scores, targets, data(100))
    assert reason == "the data has 100 classes, but the model has 5 outputs, (40, 5) float32"


def test_it_is_a_task_that_a_spec_can_name() -> None:
    assert issubclass(Classification, Task)
    assert Classification(output="logits", label_smoothing=0.1).reference() == {
        "use": "classification",
        "output": "logits",
        "label_smoothing": 0.1,
    }
    with pytest.raises(ValueError, match="label_smoothing"):
        Classification(label_smoothing=1.0)


def test_the_whole_batch_s_mean_is_pytorch_s() -> None:
    scores, targets = some()
    assert torch.allclose(TASK.loss(scores, targets).mean(), cross_entropy(scores, targets))
