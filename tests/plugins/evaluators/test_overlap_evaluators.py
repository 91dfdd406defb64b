"""Precision, recall, F1, mean intersection over union and the worst class against scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score
from torch import Tensor

from autoprune import TrialError
from autoprune.plugin import Measured
from autoprune_evaluators import F1, MeanIou, Precision, Recall, WorstClass
from autoprune_tasks.classification import Classification
from autoprune_tasks.language_models import CausalLM
from autoprune_tasks.multilabel import Multilabel
from autoprune_tasks.regression import Regression
from autoprune_tasks.segmentation import Segmentation
from tests.plugins.evaluators.answers import measured

AVERAGES = ("macro", "micro", "weighted")
REFERENCES = ((Precision, precision_score), (Recall, recall_score), (F1, f1_score))


def classified(samples: int = 300, classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores that are right more often than not, of classes of unlike frequency."""
    generator = torch.Generator().manual_seed(seed)
    frequency = torch.arange(1.0, classes + 1)
    targets = torch.multinomial(frequency, samples, replacement=True, generator=generator)
    scores = torch.randn(samples, classes, generator=generator)
    scores[torch.arange(samples), targets] += 1.5
    return scores, targets


def maps(*, ignore: int) -> tuple[Tensor, Tensor]:
    """Scores and classes of 40 maps of 6 x 5, of which a fifth does not count."""
    scores, targets = classified(40 * 30, classes=4, seed=1)
    generator = torch.Generator().manual_seed(2)
    targets[torch.rand(len(targets), generator=generator) < 0.2] = ignore
    return scores.view(40, 6, 5, 4).permute(0, 3, 1, 2).contiguous(), targets.view(40, 6, 5)


def labelled() -> tuple[Tensor, Tensor]:
    """Scores and labels, of which one is rare."""
    generator = torch.Generator().manual_seed(3)
    targets = (torch.rand(200, 4, generator=generator) < torch.tensor([0.5, 0.3, 0.1, 0.02])).float()
    return torch.randn(200, 4, generator=generator) + 2 * targets - 1, targets


@pytest.mark.parametrize("average", AVERAGES)
def test_f1_of_classes_is_scikit_learns(average: str) -> None:
    scores, targets = classified()
    found = measured(F1(average=average, batch_size=37), scores, targets, Classification())
    assert found.value == pytest.approx(f1_score(targets, scores.argmax(1), average=average), rel=1e-12)
    assert found.low < found.value < found.high
    assert found.samples == 300


def test_classes_that_do_not_occur_count_nowhere() -> None:
    scores, targets = classified(classes=3)
    wide = torch.cat([scores, torch.full((300, 4), -9.0)], dim=1)
    for evaluator in (F1(), MeanIou()):
        expected = measured(evaluator, scores, targets, Classification())
        assert measured(evaluator, wide, targets, Classification()).value == pytest.approx(expected.value)


def test_a_class_that_is_predicted_and_never_true_counts() -> None:
    scores, targets = classified(classes=4)
    targets[targets == 3] = 0
    assert measured(F1(), scores, targets, Classification()).value == pytest.approx(
        f1_score(targets, scores.argmax(1), average="macro")
    )
    assert measured(MeanIou(), scores, targets, Classification()).value == pytest.approx(
        jaccard_score(targets, scores.argmax(1), average="macro")
    )


@pytest.mark.parametrize("ignore", [-100, 255, 0], ids=["usual", "outside", "a class"])
def test_positions_that_are_ignored_count_nowhere(ignore: int) -> None:
    scores, targets = maps(ignore=ignore)
    task = Segmentation(ignore_index=ignore)
    true, predicted = (each.flatten()[targets.flatten() != ignore] for each in (targets, scores.argmax(1)))
    found = measured(MeanIou(batch_size=7), scores, targets, task)
    assert found.value == pytest.approx(jaccard_score(true, predicted, average="macro"), rel=1e-12)
    assert found.samples == 40
    for average in AVERAGES:
        f1 = measured(F1(average=average, batch_size=7), scores, targets, task).value
        assert f1 == pytest.approx(f1_score(true, predicted, average=average), rel=1e-12)
    scores.movedim(1, -1)[targets == ignore] *= -1
    assert measured(MeanIou(batch_size=7), scores, targets, task) == found


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_f1_of_labels_is_scikit_learns(average: str, threshold: float) -> None:
    scores, targets = labelled()
    found = measured(F1(average=average, batch_size=37), scores, targets, Multilabel(threshold=threshold))
    assert found.value == pytest.approx(f1_score(targets, scores.sigmoid() > threshold, average=average), rel=1e-12)


def test_labels_that_nobody_knows_count_nowhere() -> None:
    scores, targets = labelled()
    targets[::3, 1] = -100
    each = [f1_score(true[true >= 0], (given > 0)[true >= 0]) for given, true in zip(scores.T, targets.T, strict=True)]
    assert measured(F1(), scores, targets, Multilabel()).value == pytest.approx(np.mean(each), rel=1e-12)


@pytest.mark.parametrize("shapes", [((200, 1), (200,)), ((200,), (200, 1)), ((200,), (200,)), ((20, 1, 10), (20, 10))])
def test_a_single_label_is_one_class(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    scores, targets = (each[:, 0] for each in labelled())
    expected = f1_score(targets, scores > 0)
    found = measured(F1(), scores.reshape(shapes[0]), targets.reshape(shapes[1]), Multilabel())
    assert found.value == pytest.approx(expected, rel=1e-12)


def test_the_interval_is_scipys_bootstrap_over_samples() -> None:
    scores, targets = classified(samples=120, classes=3)

    def macro(true: np.ndarray, found: np.ndarray, axis: int) -> np.ndarray:
        hits = [((true == c) & (found == c)).sum(axis) for c in range(3)]
        return np.mean([2 * hits[c] / ((true == c).sum(axis) + (found == c).sum(axis)) for c in range(3)], axis=0)

    pairs = targets.numpy(), scores.argmax(1).numpy()
    assert macro(*pairs, axis=0) == pytest.approx(f1_score(*pairs, average="macro"))
    reference = stats.bootstrap(
        pairs, macro, paired=True, vectorized=True, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    ours = measured(F1(), scores, targets, Classification())
    width = reference.high - reference.low
    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high), abs=0.08 * width)


def test_what_is_known_is_told_as_soon_as_samples_define_it() -> None:
    scores, targets = torch.full((4, 2), -5.0), torch.zeros(4, 2)
    scores[3, 0], targets[3, 0] = 5.0, 1.0
    told: list[Mapping[str, Measured]] = []
    found = measured(F1(batch_size=1), scores, targets, Multilabel(), report=told.append)
    assert found.value == 1.0
    assert told[-1] == {"f1": found.model_copy(update={"difference": None})}
    order = torch.randperm(4, generator=torch.Generator().manual_seed(0)).tolist()
    assert [each["f1"].samples for each in told] == list(range(order.index(3) + 1, 5))
    assert all(math.isfinite(each["f1"].value) for each in told)


def test_what_is_known_of_many_batches_is_told_where_there_are_a_quarter_more() -> None:
    scores, targets = classified(samples=300)
    told: list[Mapping[str, Measured]] = []
    found = measured(F1(batch_size=10), scores, targets, Classification(), report=told.append)
    counts = [each["f1"].samples for each in told]
    assert counts[:5] == [10, 20, 30, 40, 50]
    assert len(counts) < 20
    assert told[-1] == {"f1": found.model_copy(update={"difference": None})}
    assert found == measured(F1(batch_size=10), scores, targets, Classification())
    assert found.samples == 300


def test_samples_without_any_class_have_no_f1() -> None:
    scores, targets = torch.full((4, 2), -5.0), torch.zeros(4, 2)
    with pytest.raises(TrialError, match=r"^f1: no class occurs in the samples, neither true nor predicted$"):
        measured(F1(), scores, targets, Multilabel())


@pytest.mark.parametrize("evaluator", [F1(), MeanIou()], ids=["f1", "miou"])
def test_what_chooses_no_classes_is_refused(evaluator: F1 | MeanIou) -> None:
    numbers = torch.randn(6, 2)
    with pytest.raises(TrialError, match=r"^\w+ counts classes; task regression has outputs .* r2, mae and rmse"):
        measured(evaluator, numbers, numbers, Regression())
    tokens = torch.randn(6, 7, 9), torch.randint(9, (6, 7))
    with pytest.raises(TrialError, match=r"counts classes; task causal-lm .* neither \(N, C, …\) and \(N, …\)"):
        measured(evaluator, *tokens, CausalLM())


def test_classes_that_stand_elsewhere_are_refused_also_where_shapes_fit() -> None:
    """As many words as tokens: counted along the wrong dimension, and without the shift."""
    tokens = torch.randn(6, 7, 7), torch.randint(7, (6, 7))
    with pytest.raises(TrialError, match="calls others right than the largest score"):
        measured(F1(), *tokens, CausalLM())


def test_another_idea_of_what_is_right_is_refused() -> None:
    class TopTwo(Classification):
        name = "top-two"

        def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return (outputs.topk(2).indices == targets[:, None]).any(1).float()

    with pytest.raises(TrialError, match=r"task top-two .* calls others right"):
        measured(F1(), *classified(), TopTwo())


def test_targets_outside_the_classes_fail_the_trial() -> None:
    scores, targets = classified(classes=3)
    with pytest.raises(TrialError, match="class 3, but the model has 3 outputs"):
        measured(F1(), scores, targets + 1, Classification())


@pytest.mark.parametrize(("evaluator", "reference"), REFERENCES, ids=["precision", "recall", "f1"])
@pytest.mark.parametrize("average", AVERAGES)
def test_precision_and_recall_are_scikit_learns(evaluator: Any, reference: Any, average: str) -> None:
    scores, targets = classified(classes=6)
    targets[targets == 5] = 0  # predicted, and never true
    scores[:, 4] = -9.0  # true, and never predicted
    found = measured(evaluator(average=average, batch_size=37), scores, targets, Classification())
    expected = reference(targets, scores.argmax(1), average=average, zero_division=0.0)
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert found.low < found.value < found.high


@pytest.mark.parametrize(("evaluator", "reference"), REFERENCES, ids=["precision", "recall", "f1"])
def test_one_class_or_label_alone(evaluator: Any, reference: Any) -> None:
    scores, targets = classified()
    for number in (0, 3):
        found = measured(evaluator(of_class=number), scores, targets, Classification())
        expected = reference(targets, scores.argmax(1), labels=[number], average=None)[0]
        assert found.value == pytest.approx(expected, rel=1e-12)
    with pytest.raises(TrialError, match=r"of_class 5, but the model has 5, from 0 on$"):
        measured(evaluator(of_class=5), scores, targets, Classification())
    scores, targets = labelled()
    targets[::3, 1] = -100
    known = targets[:, 1] >= 0
    found = measured(evaluator(of_class=1), scores, targets, Multilabel(threshold=0.3))
    expected = reference(targets[known, 1], scores[known, 1].sigmoid() > 0.3)
    assert found.value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("evaluator", "reference"), REFERENCES[:2], ids=["precision", "recall"])
def test_precision_and_recall_of_labels_and_maps(evaluator: Any, reference: Any) -> None:
    scores, targets = maps(ignore=255)
    true, predicted = (each.flatten()[targets.flatten() != 255] for each in (targets, scores.argmax(1)))
    found = measured(evaluator(), scores, targets, Segmentation(ignore_index=255))
    assert found.value == pytest.approx(reference(true, predicted, average="macro"), rel=1e-12)
    scores, targets = labelled()
    found = measured(evaluator(average="weighted"), scores, targets, Multilabel())
    assert found.value == pytest.approx(reference(targets, scores > 0, average="weighted"), rel=1e-12)


def test_a_class_that_is_nowhere_has_no_precision_of_its_own() -> None:
    scores, targets = classified(classes=3)
    wide = torch.cat([scores, torch.full((300, 1), -9.0)], dim=1)
    with pytest.raises(TrialError, match="occurs in the samples"):
        measured(Precision(of_class=3), wide, targets, Classification())


def test_the_worst_class_is_the_smallest_recall() -> None:
    scores, targets = classified(samples=600)
    found = measured(WorstClass(batch_size=50), scores, targets, Classification())
    assert found.value == pytest.approx(min(recall_score(targets, scores.argmax(1), average=None)), rel=1e-12)
    assert found.low < found.value < found.high
    # Classes that are never true have no recall, though they are predicted.
    targets[targets == 0] = 4
    assert measured(WorstClass(), scores, targets, Classification()).value == pytest.approx(
        min(recall_score(targets, scores.argmax(1), labels=[1, 2, 3, 4], average=None)), rel=1e-12
    )


def test_the_worst_classs_interval_is_of_wilson_intervals_that_hold_together() -> None:
    """By SciPy's Wilson intervals of each class at 1 - 0.05 / 5."""
    scores, targets = classified(samples=600)
    right = scores.argmax(1) == targets
    of_each = [
        stats.binomtest(int(right[targets == number].sum()), int((targets == number).sum())).proportion_ci(
            1 - 0.05 / 5, method="wilson"
        )
        for number in range(5)
    ]
    found = measured(WorstClass(), scores, targets, Classification())
    assert found.low == pytest.approx(min(each.low for each in of_each))
    assert found.high == pytest.approx(min(each.high for each in of_each))


@pytest.mark.slow
@pytest.mark.parametrize("others", [0.7, 0.9], ids=["one is worst", "all are alike"])
def test_the_worst_classs_interval_holds_the_truth(others: float) -> None:
    held, generator = 0, torch.Generator().manual_seed(0)
    chances = torch.tensor([others] + [0.9] * 9)
    for _ in range(100):
        targets = torch.randint(10, (1000,), generator=generator)
        right = torch.rand(1000, generator=generator) < chances[targets]
        scores = torch.eye(10)[torch.where(right, targets, (targets + 1) % 10)]
        found = measured(WorstClass(batch_size=1000), scores, targets, Classification())
        held += found.low <= float(chances.min()) <= found.high
    assert held >= 92


def test_no_class_is_worst_where_none_is_true() -> None:
    with pytest.raises(TrialError, match=r"^worst_class_accuracy: no class is true in any of the samples$"):
        measured(WorstClass(), torch.ones(4, 2), torch.zeros(4, 2), Multilabel())
