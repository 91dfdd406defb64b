"""R², mean absolute error and root mean squared error against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score, root_mean_squared_error
from torch import Tensor

from autoprune import TrialError
from autoprune.toolkit.samples import SampleEvaluator
from autoprune_evaluators import R2, Mae, Rmse
from autoprune_tasks.classification import Classification
from autoprune_tasks.multilabel import Multilabel
from autoprune_tasks.regression import Regression
from tests.plugins.evaluators.answers import measured

EVALUATORS = [R2(), Mae(), Rmse()]


def numbers(*shape: int, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(200, *shape, generator=generator) * 3 + offset
    return targets + torch.randn(200, *shape, generator=generator), targets


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3)], ids=str)
def test_they_are_scikit_learns(shape: tuple[int, ...]) -> None:
    outputs, targets = numbers(*shape, offset=5.0)
    rows = targets.reshape(200, -1).double(), outputs.reshape(200, -1).double()
    mae, rmse, r2 = (measured(each, outputs, targets, Regression()).value for each in (Mae(), Rmse(), R2()))
    assert mae == pytest.approx(mean_absolute_error(*rows), rel=1e-9)
    assert rmse == pytest.approx(mean_squared_error(*rows) ** 0.5, rel=1e-9)
    assert r2 == pytest.approx(r2_score(*rows), rel=1e-9)
    if rows[0].shape[1] == 1:
        assert rmse == pytest.approx(root_mean_squared_error(*rows), rel=1e-9)


@pytest.mark.parametrize("evaluator", EVALUATORS, ids=lambda each: each.name)
def test_batches_and_a_column_change_nothing(evaluator: SampleEvaluator) -> None:
    outputs, targets = numbers()
    whole = measured(evaluator, outputs, targets, Regression())
    odd = measured(evaluator.model_copy(update={"batch_size": 7}), outputs[:, None], targets, Regression())
    assert (odd.value, odd.low, odd.high) == pytest.approx((whole.value, whole.low, whole.high), rel=1e-9)
    assert odd.samples == whole.samples == 200


def test_r2_far_from_zero_is_exact() -> None:
    outputs, targets = numbers(offset=20_000.0)
    expected = r2_score(targets.double(), outputs.double())
    assert measured(R2(), outputs, targets, Regression()).value == pytest.approx(expected, abs=1e-6)


def test_worse_than_the_mean_is_below_zero() -> None:
    outputs, targets = numbers()
    assert measured(R2(), -outputs, targets, Regression()).value == pytest.approx(r2_score(targets, -outputs))
    assert measured(R2(), -outputs, targets, Regression()).value < -1


@pytest.mark.parametrize(
    ("evaluator", "statistic"),
    [
        (R2(), lambda y, x, axis: 1 - ((y - x) ** 2).mean(axis) / y.var(axis)),
        (Rmse(), lambda y, x, axis: ((y - x) ** 2).mean(axis) ** 0.5),
        (Mae(), lambda y, x, axis: abs(y - x).mean(axis)),
    ],
    ids=["r2", "rmse", "mae"],
)
def test_intervals_are_those_of_scipys_bootstrap(evaluator: SampleEvaluator, statistic) -> None:
    outputs, targets = numbers()
    ours = measured(evaluator, outputs, targets, Regression())
    reference = stats.bootstrap(
        (targets.double().numpy(), outputs.double().numpy()), statistic,
        paired=True, vectorized=True, method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    width = reference.high - reference.low
    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high), abs=0.1 * width)


def test_perfect_predictions() -> None:
    _, targets = numbers(2)
    assert measured(R2(), targets, targets, Regression()).value == 1
    rmse = measured(Rmse(), targets, targets, Regression())
    assert (rmse.value, rmse.low, rmse.high) == (0, 0, 0)


def test_a_target_that_never_varies_has_no_r2() -> None:
    outputs, targets = numbers(2)
    targets[:, 1] = 0.1
    with pytest.raises(TrialError, match=r"^r2: a target is the same for all samples, .* no variance to explain$"):
        measured(R2(), outputs, targets, Regression())
    measured(Mae(), outputs, targets, Regression())


@pytest.mark.parametrize("evaluator", EVALUATORS, ids=lambda each: each.name)
def test_what_are_no_numbers_is_refused(evaluator: SampleEvaluator) -> None:
    scores = torch.randn(6, 3)
    with pytest.raises(TrialError, match=r"compares numbers; task classification .* use accuracy or f1$"):
        measured(evaluator, scores, torch.arange(6) % 3, Classification())
    with pytest.raises(TrialError, match=r"compares numbers; task multilabel .* right or wrong: use accuracy or f1$"):
        measured(evaluator, scores, (scores > 0).float(), Multilabel())


@pytest.mark.parametrize("evaluator", EVALUATORS, ids=lambda each: each.name)
def test_what_cannot_be_compared_number_by_number_is_refused(evaluator: SampleEvaluator) -> None:
    class Counts(Regression):
        name = "counts"

        def counted(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return torch.ones(len(outputs))

    outputs, targets = numbers(3)
    with pytest.raises(TrialError, match="let the data give targets in the shape of the outputs"):
        measured(evaluator, outputs, targets[:, 0], Regression())
    with pytest.raises(TrialError, match="does not tell which of them count: use loss"):
        measured(evaluator, outputs, targets, Counts())
