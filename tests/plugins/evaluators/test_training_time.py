"""Training time: a step is a whole one, of copies. No time is asserted but that of a network that sleeps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from autoprune.plugin import Split
from autoprune.study.predictor import Predictor
from autoprune_evaluators import TrainingTime

if TYPE_CHECKING:
    from conftest import Case

QUICK = TrainingTime(repeats=4, seconds=0.0, batch_size=8)


class Slow(nn.Module):
    """Sleeps on the way back."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.linear, self.norm, self.seconds = nn.Linear(64, 10), nn.BatchNorm1d(10), seconds

    def forward(self, x: Tensor) -> Tensor:
        assert self.training
        y = self.norm(self.linear(x.flatten(1)))
        y.register_hook(lambda _: time.sleep(self.seconds))
        return y


def test_the_way_back_counts_and_nothing_of_the_models_changes(digits: Case) -> None:
    slow, quick = (Predictor(Slow(seconds)).eval() for seconds in (0.02, 0.0005))
    before = {name: tensor.clone() for name, tensor in slow.state_dict().items()}
    found = digits.measure(QUICK, slow, dense=quick)
    assert found["training_ms"].value >= 20
    assert found["training_ratio"].value > 2
    assert found["training_ratio"].difference.told_apart
    assert all(torch.equal(before[name], tensor) for name, tensor in slow.state_dict().items())
    assert all(parameter.grad is None for parameter in slow.parameters())
    assert not slow.training


def test_one_train_sample_is_refused(digits: Case) -> None:
    inputs, targets = digits.data.train.fetch(torch.arange(1))
    one = digits.with_data(train=Split.of_tensors(inputs, targets))
    assert QUICK.refuses(one.data) == "training-time: a step takes 2 train samples or more; there are 1"
    assert QUICK.refuses(digits.data) is None


def test_the_dense_model_against_itself(digits: Case) -> None:
    found = digits.measure(QUICK, of_dense=True)
    assert found["training_ratio"].low <= found["training_ratio"].value <= found["training_ratio"].high
    assert found["training_ratio"].difference is None


@pytest.mark.parametrize("name", ["training_ms", "training_ratio"])
def test_metrics_are_costs(name: str) -> None:
    assert {metric.name: metric.is_cost for metric in TrainingTime.metrics}[name]
