"""One class at each position against loops and scikit-learn, and what is refused."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor
from torch.nn.functional import cross_entropy

from autoprune import TrialError
from autoprune.plugin import Data, Split
from autoprune_tasks.segmentation import Segmentation

from .cases import classes, noise

TASK = Segmentation()
SHAPES = [(6, 4, 5, 3), (6, 4, 9), (6, 4, 2, 3, 2), (1, 3, 4, 4)]
numbers, whole = torch.zeros, partial(torch.zeros, dtype=torch.int64)


@pytest.fixture
def data() -> Data:
    split = Split.of_tensors(torch.zeros(4, 2), torch.zeros(4))
    return Data(split, split, split)


def some(*shape: int, ignored: int | None = -100) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of a model and of the dense one, and targets."""
    samples, count, *places = shape
    if samples == 1:  # of which the last has nothing that counts
        return 3 * noise(*shape), 3 * noise(*shape, seed=9), classes(2, *places, count=count)[:1]
    return 3 * noise(*shape), 3 * noise(*shape, seed=9), classes(samples, *places, count=count, ignored=ignored)


def positions(scores: Tensor, targets: Tensor) -> list[list[tuple[Any, int]]]:
    """Of each sample, scores and class of the positions that count, one by one."""
    rows = [[] for _ in scores]  # type: list[list[tuple[Any, int]]]
    for index in (targets != -100).nonzero().tolist():
        sample, *place = index
        rows[sample].append((scores[(sample, slice(None), *place)].double().numpy(), int(targets[tuple(index)])))
    return rows


@pytest.mark.parametrize("shape", SHAPES)
def test_the_loss_is_the_mean_cross_entropy_of_the_positions_that_count(shape: tuple[int, ...]) -> None:
    scores, _, targets = some(*shape)
    loss, rows = TASK.loss(scores, targets), positions(scores, targets)
    assert torch.equal(TASK.counted(scores, targets), torch.tensor([len(row) for row in rows]))
    labels = range(shape[1])
    expected = [
        log_loss([y for _, y in row], [softmax(s) for s, _ in row], labels=labels) if row else 0 for row in rows
    ]
    assert loss.tolist() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(TASK.training_loss(scores, targets), loss)


def test_weighted_by_what_counts_it_is_pytorch_s_mean() -> None:
    scores, _, targets = some(6, 4, 5, 3)
    each, counted = TASK.loss(scores, targets), TASK.counted(scores, targets)
    assert counted[-1] == 0
    assert torch.allclose((each * counted).sum() / counted.sum(), cross_entropy(scores, targets))
    scores.requires_grad_()
    (ours,) = torch.autograd.grad((TASK.loss(scores, targets) * counted).sum() / counted.sum(), scores)
    (theirs,) = torch.autograd.grad(cross_entropy(scores, targets), scores)
    assert torch.allclose(ours, theirs, atol=1e-7)


@pytest.mark.parametrize("shape", SHAPES)
def test_divergence_is_the_mean_relative_entropy(shape: tuple[int, ...]) -> None:
    scores, dense, targets = some(*shape)
    p, q = (softmax(each.double().numpy(), 1) for each in (dense, scores))
    each = torch.from_numpy(rel_entr(p, q).sum(1))
    found = TASK.divergence(scores, dense)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(each.flatten(1).mean(1).tolist(), rel=1e-6)
    for row, sample in enumerate(TASK.divergence(scores, dense, targets)):
        counting = each[row][targets[row] != -100]
        assert float(sample) == pytest.approx(float(counting.mean()) if len(counting) else 0, rel=1e-6)
    assert TASK.divergence(dense, dense, targets).tolist() == [0.0] * len(dense)


@pytest.mark.parametrize("shape", SHAPES)
def test_right_and_the_same_are_those_of_the_largest_score(shape: tuple[int, ...]) -> None:
    scores, dense, targets = some(*shape)
    rows, of_dense = positions(scores, targets), positions(dense, targets)
    right = [accuracy_score([y for _, y in row], [s.argmax() for s, _ in row]) if row else 0 for row in rows]
    assert TASK.correct(scores, targets).tolist() == pytest.approx(right)
    pairs = zip(rows, of_dense, strict=True)
    alike = [accuracy_score([s.argmax() for s, _ in a], [s.argmax() for s, _ in b]) if a else 0 for a, b in pairs]
    assert TASK.agreement(scores, dense, targets).tolist() == pytest.approx(alike)
    of_all = (scores.argmax(1) == dense.argmax(1)).flatten(1).float().mean(1)
    assert TASK.agreement(scores, dense).tolist() == pytest.approx(of_all.tolist())


def test_what_does_not_count_may_be_anything() -> None:
    """NaN times 0 would be NaN, in the value and in the gradient."""
    scores, dense, targets = some(6, 4, 5, 3)
    ignored = (targets == -100)[:, None].expand_as(scores)
    for value in (torch.nan, torch.inf):
        broken, dense_broken = (each.masked_fill(ignored, value).requires_grad_() for each in (scores, dense))
        assert torch.equal(TASK.loss(broken, targets), TASK.loss(scores, targets))
        assert torch.equal(TASK.divergence(broken, dense_broken, targets), TASK.divergence(scores, dense, targets))
        assert torch.equal(TASK.correct(broken, targets), TASK.correct(scores, targets))
        total = (TASK.loss(broken, targets) + TASK.divergence(broken, dense, targets)).sum()
        assert torch.autograd.grad(total, broken)[0].isfinite().all()


def test_another_index_may_be_ignored() -> None:
    scores, dense, targets = some(6, 4, 5, 3)
    other = Segmentation(ignore_index=255)
    moved = targets.where(targets != -100, 255)
    assert torch.equal(other.loss(scores, moved), TASK.loss(scores, targets))
    assert torch.equal(other.divergence(scores, dense, moved), TASK.divergence(scores, dense, targets))
    assert torch.equal(other.counted(scores, moved), TASK.counted(scores, targets))
    with pytest.raises(
        TrialError, match=r"segmentation: a target is class 255, .*nowhere is -100, the option ignore_index"
    ):
        TASK.loss(scores, moved)
    # A class of the model's own, such as the background.
    background = Segmentation(ignore_index=0)
    assert torch.equal(background.counted(scores, targets.clamp_min(0)), (targets > 0).flatten(1).sum(1))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_more(kind: torch.dtype) -> None:
    scores, dense, targets = (each.to(kind) if each.is_floating_point() else each for each in some(6, 4, 5, 3))
    assert torch.equal(TASK.loss(scores, targets), TASK.loss(scores.float(), targets))
    assert torch.equal(TASK.divergence(scores, dense, targets), TASK.divergence(scores.float(), dense.float(), targets))
    scores.requires_grad_()
    assert torch.autograd.grad(TASK.loss(scores, targets).sum(), scores)[0].dtype == kind


def test_the_layout_in_memory_does_not_matter() -> None:
    scores, dense, targets = some(6, 4, 5, 3)
    last = scores.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(TASK.loss(last, targets), TASK.loss(scores, targets))
    assert torch.allclose(TASK.divergence(last, dense), TASK.divergence(scores, dense))
    assert torch.equal(TASK.correct(last, targets), TASK.correct(scores, targets))


def test_one_class_per_sample_may_lack() -> None:
    """Classification with samples that nobody has labelled."""
    scores, targets = noise(9, 4), classes(9, 2, count=4)[:, 0]
    counting = targets != -100
    assert torch.allclose(
        TASK.loss(scores, targets)[counting], cross_entropy(scores[counting], targets[counting], reduction="none")
    )
    assert torch.equal(TASK.counted(scores, targets), counting.long())


def test_scores_of_minus_infinity_rule_a_class_out() -> None:
    dense = torch.tensor([[[1.0], [-torch.inf], [0.0]]])
    ours = torch.tensor([[[0.5], [3.0], [0.0]]])
    p, q = softmax([1.0, 0.0]), log_softmax([0.5, 3.0, 0.0])[[0, 2]]
    assert TASK.divergence(ours, dense).tolist() == pytest.approx([float((p * (log_softmax([1.0, 0.0]) - q)).sum())])


@pytest.mark.parametrize(
    ("outputs", "targets", "told"),
    [
        (numbers(4, 1, 8, 8), whole(4, 8, 8), ["(4, 1, 8, 8) float32", "{use: multilabel}", "{use: regression}"]),
        (numbers(4, 3, 8, 8), numbers(4, 3, 8, 8), ["{use: multilabel}", "{use: regression}"]),
        (numbers(4, 3, 8, 8), numbers(4, 8, 8), ["(4, 8, 8) float32", "{use: regression}"]),
        (numbers(4, 3, 8, 8), torch.zeros(4, 8, 8, dtype=torch.uint8), ["(4, 8, 8) uint8", "as int64"]),
        (numbers(4, 3, 8, 8), whole(4, 1, 8, 8), ["without the second dimension, (4, 8, 8)"]),
        (numbers(4, 3, 8, 8), whole(4, 16, 16), ["(4, 16, 16) int64", "targets (4, 8, 8) are needed", "resize masks"]),
        (numbers(4, 3, 8, 8), whole(4, 4, 16), ["(4, 4, 16) int64", "targets (4, 8, 8) are needed"]),
        (numbers(4, 7, 50), whole(4, 7), ["{use: causal-lm}", "{use: masked-lm}", "{use: seq2seq-lm}"]),
        (whole(4, 3, 8, 8), whole(4, 8, 8), ["outputs are (4, 3, 8, 8) int64", "return scores"]),
        (numbers(4, 3, 8, 8), {"mask": whole(4, 8, 8)}, ["{mask: (4, 8, 8) int64}", "heads: {mask: {use: …}}"]),
        (numbers(4, 3, 8, 8), {}, ["the data has no targets", "task: {use: embedding}"]),
        (numbers(4, 3, 8, 8), whole(4, 8, 8) - 100, ["nothing of the first 4 samples counts", "every target is -100"]),
        (numbers(4, 3, 8, 8), whole(4, 8, 8) + 255, ["class 255", "3 outputs", "-100, the option ignore_index"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(outputs: Tensor, targets: Any, told: list[str], data: Data) -> None:
    reason = TASK.refuses(outputs, targets, data)
    assert reason is not None
    assert "\n" not in reason
    for part in told:
        assert part in reason


def test_more_classes_than_outputs_are_refused_though_the_batch_has_few(data: Data) -> None:
    scores, _, targets = some(6, 4, 5, 3)
    assert TASK.refuses(scores, targets, data) is None
    many = Data(data.train, data.validation, data.test, classes=21)
    assert (
        TASK.refuses(scores, targets, many)
        == "the data has 21 classes, but the model has 4 outputs, (6, 4, 5, 3) float32"
    )


def test_batches_that_do_not_fit_fail_the_trial_though_the_first_did() -> None:
    with pytest.raises(TrialError, match=r"^segmentation: targets are \(2, 4, 4\) int64 and outputs \(2, 3, 2, 8\)"):
        TASK.loss(numbers(2, 3, 2, 8), whole(2, 4, 4))
