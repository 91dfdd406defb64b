"""The six indicators, each from what `accuracy`, `pgd`, `latency` and counts say of both models."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from autoprune import TrialError
from autoprune.plugin import Costs
from autoprune.study.predictor import Predictor
from autoprune_evaluators import (
    Accuracy,
    AccuracyLoss,
    EfficiencyImprovement,
    InferenceTimeReduction,
    ParameterReduction,
    Pgd,
    ResourceReduction,
    RobustnessImprovement,
)

if TYPE_CHECKING:
    from conftest import Case

QUICK = {"repeats": 4, "seconds": 0.0, "batch_size": 8}
ATTACK = {"epsilon": 0.05, "steps": 3, "samples": 64}


@pytest.fixture
def worse(digits: Case) -> Predictor:
    """The model with a part of its filters at zero."""
    network = copy.deepcopy(digits.model.network)
    with torch.no_grad():
        network[4].weight[:8] = 0
        network[4].bias[:8] = 0
    return Predictor(network, digits.data.normalization).eval()


def test_reductions_are_shares_that_are_gone() -> None:
    dense, pruned = Costs(params=200, macs=1000, bytes=800, nonzero=200), Costs(params=50, macs=600, bytes=1, nonzero=1)
    assert ParameterReduction().compute(pruned, dense) == {"parameter_reduction": 0.75}
    assert ResourceReduction().compute(pruned, dense) == {"resource_reduction": pytest.approx(0.4)}


def test_accuracy_that_is_lost(digits: Case, worse: Predictor) -> None:
    found = digits.measure(AccuracyLoss(), worse)["accuracy_loss"]
    dense, pruned = (digits.measure(Accuracy(), model)["accuracy"] for model in (digits.model, worse))
    assert found.value == pytest.approx(dense.value - pruned.value)
    assert found.value > 0
    assert (found.low, found.high) == pytest.approx((-pruned.difference.high, -pruned.difference.low))
    assert found.samples == pruned.samples


def test_robustness_that_is_gained(digits: Case, worse: Predictor) -> None:
    found = digits.measure(RobustnessImprovement(**ATTACK), worse)["robustness_improvement"]
    dense, pruned = (digits.measure(Pgd(**ATTACK), model)["robust_accuracy"] for model in (digits.model, worse))
    assert found.value == pytest.approx(pruned.value - dense.value)
    assert (found.low, found.high) == pytest.approx((pruned.difference.low, pruned.difference.high))


def test_an_epsilon_that_was_found_is_told(digits: Case, worse: Predictor) -> None:
    evaluator = RobustnessImprovement(**{**ATTACK, "epsilon": "auto"})
    assert digits.measure(evaluator, worse).keys() == {"robustness_improvement", "epsilon"}


@pytest.mark.parametrize(
    ("evaluator", "name"),
    [
        (AccuracyLoss(), "accuracy_loss"),
        (RobustnessImprovement(**ATTACK), "robustness_improvement"),
    ],
)
def test_the_dense_model_changes_nothing(digits: Case, evaluator: Accuracy, name: str) -> None:
    found = digits.measure(evaluator, of_dense=True)[name]
    assert (found.value, found.low, found.high, found.difference) == (0, 0, 0, None)


def sleeping(seconds: float, digits: Case) -> Predictor:
    """The digits' network, that takes longer."""

    class Sleeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = digits.model.network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            import time

            time.sleep(seconds)
            return self.network(x)

    return Predictor(Sleeps(), digits.data.normalization).eval()


def test_time_that_is_saved_and_what_it_is_worth(digits: Case) -> None:
    slow, quick = sleeping(0.02, digits), sleeping(0.0, digits)
    saved = digits.measure(InferenceTimeReduction(**QUICK), quick, dense=slow)["inference_time_reduction"]
    assert 0.5 < saved.value < 1
    assert saved.difference.told_apart
    lost = digits.measure(InferenceTimeReduction(**QUICK), slow, dense=quick)["inference_time_reduction"]
    assert lost.value < -1
    gained = digits.measure(EfficiencyImprovement(**QUICK), quick, dense=slow)["efficiency_improvement"]
    assert gained.value > 1  # as accurate, in less than half of the time
    assert gained.low <= gained.value <= gained.high


def test_efficiency_of_a_dense_model_that_is_never_right_is_not_given(digits: Case) -> None:
    class Wrong(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.one_hot((targets[: len(x)] + 1) % 10, 10).float()

    targets = digits.data.validation.fetch(torch.arange(8))[1]
    first = digits.with_data(validation=digits.data.validation.part(torch.arange(8)))
    wrong = Predictor(Wrong()).eval()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    targets = targets[order]
    with pytest.raises(TrialError, match="the dense model gets nothing right"):
        first.measure(EfficiencyImprovement(**QUICK), digits.model, dense=wrong)
