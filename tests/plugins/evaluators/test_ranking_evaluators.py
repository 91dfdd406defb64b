"""Top-k accuracy, area under the ROC curve and calibration error against scikit-learn, torchmetrics and the papers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score, top_k_accuracy_score
from torch import Tensor

from autoprune import TrialError
from autoprune.plugin import Evaluator, Measured
from autoprune.toolkit.packages import optional
from autoprune_evaluators import Accuracy, Auc, CalibrationError, TopK
from autoprune_tasks.classification import Classification
from autoprune_tasks.multilabel import Multilabel
from autoprune_tasks.regression import Regression
from autoprune_tasks.segmentation import Segmentation
from tests.plugins.evaluators.answers import Answer, context, measured
from tests.plugins.evaluators.test_overlap_evaluators import classified, labelled, maps


def tied(classes: int = 4, samples: int = 300) -> tuple[Tensor, Tensor]:
    """Scores of few levels, so that many are equal, also after a softmax."""
    scores, targets = classified(samples, classes)
    return scores.round(), targets


@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k_is_scikit_learns(k: int) -> None:
    scores, targets = classified()
    found = measured(TopK(k=k, batch_size=37), scores, targets, Classification())
    assert found.value == pytest.approx(top_k_accuracy_score(targets, scores, k=k), rel=1e-12)
    assert found.low < found.value < found.high


def test_the_first_of_equal_scores_stands_higher_and_nan_is_never_right() -> None:
    scores, targets = torch.zeros(4, 4), torch.arange(4)
    assert measured(TopK(k=2), scores, targets, Classification()).value == 0.5
    assert measured(TopK(k=1), *tied(), Classification()) == measured(Accuracy(), *tied(), Classification())
    scores[0, 3] = math.nan
    assert measured(TopK(k=2), scores, targets, Classification()).value == 0.25


def test_top_k_of_maps_counts_elements() -> None:
    scores, targets = maps(ignore=255)
    flat = scores.movedim(1, -1)[targets != 255]
    found = measured(TopK(k=2, batch_size=7), scores, targets, Segmentation(ignore_index=255))
    assert found.value == pytest.approx(top_k_accuracy_score(targets[targets != 255], flat, k=2), rel=1e-6)
    assert found.samples == 40


def test_top_k_of_all_classes_or_of_labels_is_refused() -> None:
    with pytest.raises(TrialError, match=r"^top-k: among 5 of 5 classes every one is; write k: 4$"):
        measured(TopK(), *classified(), Classification())
    with pytest.raises(TrialError, match=r"^top-k is of one class each; task multilabel"):
        measured(TopK(k=1), *labelled(), Multilabel())
    with pytest.raises(TrialError, match="of which nothing is right or wrong"):
        measured(TopK(k=1), torch.randn(5, 2), torch.randn(5, 2), Regression())


@pytest.mark.parametrize("cases", [classified, tied], ids=["distinct", "ties"])
def test_auc_of_two_classes_is_scikit_learns(cases: Any) -> None:
    scores, targets = cases(classes=2)
    found = measured(Auc(batch_size=37), scores, targets, Classification())
    assert found.value == pytest.approx(roc_auc_score(targets, (scores[:, 1] - scores[:, 0]).double()), rel=1e-12)
    assert found.low < found.value < found.high
    assert found.samples == 300


@pytest.mark.parametrize("cases", [classified, tied], ids=["distinct", "ties"])
def test_auc_of_classes_is_scikit_learns_one_against_the_rest(cases: Any) -> None:
    scores, targets = cases(classes=4)
    expected = roc_auc_score(targets, scores.double().softmax(1).numpy().round(12), multi_class="ovr")
    assert measured(Auc(), scores, targets, Classification()).value == pytest.approx(expected, rel=1e-9)
    wide = torch.cat([scores, torch.full((300, 2), -30.0)], dim=1)  # classes that are true nowhere
    assert measured(Auc(), wide, targets, Classification()).value == pytest.approx(expected, rel=1e-9)


def test_auc_of_labels_is_scikit_learns() -> None:
    scores, targets = labelled()
    assert measured(Auc(), scores, targets, Multilabel()).value == pytest.approx(roc_auc_score(targets, scores))
    targets[::3, 1] = -100
    each = [roc_auc_score(true[true >= 0], given[true >= 0]) for given, true in zip(scores.T, targets.T, strict=True)]
    assert measured(Auc(), scores, targets, Multilabel()).value == pytest.approx(np.mean(each), rel=1e-12)


def test_auc_of_maps_counts_elements() -> None:
    scores, targets = maps(ignore=255)
    flat = scores.movedim(1, -1)[targets != 255].double().softmax(1)
    expected = roc_auc_score(targets[targets != 255], flat, multi_class="ovr")
    assert measured(Auc(), scores, targets, Segmentation(ignore_index=255)).value == pytest.approx(expected, rel=1e-9)


def test_sure_models_are_not_ranked_by_how_their_probabilities_round() -> None:
    scores, targets = classified(classes=3)
    small, large = (measured(Auc(), scale * scores, targets, Classification()) for scale in (1.0, 200.0))
    probabilities = (200 * scores).double().softmax(1)
    assert (probabilities == 1).sum() > 100
    assert large.value > roc_auc_score(targets, probabilities, multi_class="ovr")
    assert large.value == pytest.approx(small.value, abs=0.02)


def delong(scores: list[np.ndarray], true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas and their covariance, by the kernel of each pair, as the paper defines them."""
    v10, v01 = [], []
    for score in scores:
        positive, negative = score[true == 1][:, None], score[true == 0][None]
        kernel = (positive > negative) + 0.5 * (positive == negative)
        v10.append(kernel.mean(1))
        v01.append(kernel.mean(0))
    areas = np.array([each.mean() for each in v10])
    return areas, np.cov(v10) / len(v10[0]) + np.cov(v01) / len(v01[0])


def test_intervals_and_differences_of_areas_are_delongs() -> None:
    scores, targets = tied(classes=2)
    theirs = scores + torch.randn(scores.shape, generator=torch.Generator().manual_seed(9)).round()
    given = [(each[:, 1] - each[:, 0]).numpy() for each in (scores, theirs)]
    areas, covariance = delong(given, targets.numpy())
    z = stats.norm.ppf(0.975)

    class Other(Answer):
        def forward(self, *args: Tensor, **kwargs: Tensor) -> Any:
            return args[0] + torch.randn(args[0].shape, generator=torch.Generator().manual_seed(9)).round()

    # One batch, in a random order: the noise of the other model goes with the order.
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    back = torch.empty_like(scores)
    back[order] = scores
    targets_back = torch.empty_like(targets)
    targets_back[order] = targets
    ctx = context(back, targets_back, Classification(), dense=Other())
    found = Auc(batch_size=300).evaluate(Answer(), ctx)["auc"]
    assert isinstance(found, Measured)
    half = z * math.sqrt(covariance[0, 0])
    assert (found.low, found.high) == pytest.approx((areas[0] - half, areas[0] + half), abs=0.01 * half)
    assert found.difference is not None
    half = z * math.sqrt(np.array([1, -1]) @ covariance @ np.array([1, -1]))
    assert found.difference.value == pytest.approx(areas[0] - areas[1], abs=1e-12)
    assert found.difference.high - found.difference.value == pytest.approx(half, rel=0.01)


def test_a_perfect_ranking_and_a_single_positive_have_no_interval() -> None:
    targets = torch.arange(40) % 2
    scores = torch.stack([torch.zeros(40), targets + torch.linspace(0, 0.5, 40)], dim=1)
    perfect = measured(Auc(), scores, targets, Classification())
    assert (perfect.value, perfect.low, perfect.high) == (1.0, None, None)
    single = torch.zeros(40, dtype=torch.int64)
    single[20] = 1
    found = measured(Auc(), scores, single, Classification())
    assert found.value == pytest.approx(roc_auc_score(single, scores[:, 1]))
    assert found.low is None


@pytest.mark.parametrize("evaluator", [Auc(), CalibrationError()], ids=lambda each: each.name)
def test_outputs_that_are_nan_fail_the_trial(evaluator: Evaluator) -> None:
    scores, targets = classified()
    scores[7, 2] = math.nan
    with pytest.raises(TrialError, match=rf"^{evaluator.name}: the model's outputs are NaN"):
        measured(evaluator, scores, targets, Classification())


def test_one_class_alone_has_no_area() -> None:
    with pytest.raises(TrialError, match=r"^auc: no class, or label, is true of some of the samples"):
        measured(Auc(), torch.randn(9, 3), torch.zeros(9, dtype=torch.int64), Classification())


def test_more_scores_than_are_kept_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprune_evaluators._whole._KEPT", 300)
    with pytest.raises(TrialError, match=r"fewer: \{use: auc, samples: 30\}$"):
        measured(Auc(batch_size=20), *classified(), Classification())
    assert measured(Auc(batch_size=20, samples=30), *classified(), Classification()).samples == 30


def test_what_is_known_is_told_where_there_are_twice_as_many() -> None:
    told: list[Mapping[str, Measured]] = []
    found = measured(Auc(batch_size=10), *classified(), Classification(), report=told.append)
    assert [each["auc"].samples for each in told] == [10, 20, 40, 80, 160, 300]
    assert told[-1]["auc"].model_copy(update={"difference": found.difference}) == found


def guo(sure: np.ndarray, right: np.ndarray, edges: np.ndarray) -> float:
    """Equation 3 of the paper: the bins' distances of accuracy from confidence, by their shares of the samples."""
    total = 0.0
    for low, high in pairwise(edges):
        inside = (sure > low) & (sure <= high)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_is_the_papers_and_torchmetrics(bins: int) -> None:
    optional("torchvision")  # torchmetrics imports it
    from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

    scores, targets = classified(samples=500)
    probabilities = (3 * scores).double().softmax(1)
    found = measured(CalibrationError(bins=bins, batch_size=60), 3 * scores, targets, Classification())
    sure, right = probabilities.amax(1).numpy(), (scores.argmax(1) == targets).numpy()
    assert found.value == pytest.approx(guo(sure, right, np.linspace(0, 1, bins + 1)), abs=1e-9)
    theirs = multiclass_calibration_error(probabilities.float(), targets, num_classes=5, n_bins=bins)
    assert found.value == pytest.approx(float(theirs), abs=1e-6)
    scores, targets = labelled()
    found = measured(CalibrationError(bins=bins), scores, targets, Multilabel())
    theirs = binary_calibration_error(scores.sigmoid().flatten(), targets.long().flatten(), n_bins=bins)
    assert found.value == pytest.approx(float(theirs), abs=1e-6)


def test_bins_of_equal_mass_are_those_of_scikit_learns_curve() -> None:
    scores, targets = labelled()
    scores, targets = scores[:, 0], targets[:, 0]
    found = measured(CalibrationError(bins=8, binning="equal-mass"), scores, targets, Multilabel())
    sure = scores.double().sigmoid().numpy()
    accuracy, confidence = calibration_curve(targets, sure, n_bins=8, strategy="quantile")
    assert len(accuracy) == 8  # of 25 samples each
    assert found.value == pytest.approx(np.mean(abs(accuracy - confidence)), abs=1e-9)


def test_ignored_elements_are_neither_sure_nor_right() -> None:
    scores, targets = maps(ignore=255)
    found = measured(CalibrationError(), scores, targets, Segmentation(ignore_index=255))
    flat, true = scores.movedim(1, -1)[targets != 255], targets[targets != 255]
    assert found.value == pytest.approx(measured(CalibrationError(), flat, true, Classification()).value, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_interval_of_the_calibration_error_holds_the_error_of_the_whole(temperature: float) -> None:
    """Over 100 draws of samples whose right answers are drawn from known probabilities."""
    held, generator = 0, torch.Generator().manual_seed(0)
    whole_scores = 2 * torch.randn(40000, 3, generator=generator)
    whole = whole_scores.softmax(1)
    drawn = torch.multinomial(whole, 1, generator=generator).squeeze(1)
    sure, chance = (temperature * whole_scores).softmax(1).max(1).values, whole.amax(1)
    edges = np.linspace(0, 1, 16)
    true = guo(sure.numpy(), chance.numpy(), edges)
    for _ in range(100):
        rows = torch.randint(40000, (400,), generator=generator)
        found = measured(CalibrationError(), temperature * whole_scores[rows], drawn[rows], Classification())
        held += found.low <= true <= found.high
    assert held >= 92
