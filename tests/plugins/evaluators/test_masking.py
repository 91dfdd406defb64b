"""Models that only look robust are caught, and honest ones raise no flag."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin import Split
from autoprune_evaluators import Masking
from autoprune_evaluators._masking import Evidence, masking_flags
from autoprune_tasks.regression import Regression

if TYPE_CHECKING:
    from conftest import Case


class Around(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class Scaled(Around):
    """Logits so far apart that the cross-entropy is flat."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = 100 * self.model(x)
        return result


class Quantised(Around):
    """Inputs in 8 levels: rounding has a gradient of 0."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.model((x * 7).round() / 7)
        return result


def left_in_training(model: nn.Module) -> nn.Module:
    """Batch norm by the batch's own statistics."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.momentum = 0.0
    return model


FIXTURES = {"scaled": Scaled, "quantised": Quantised, "train-mode": left_in_training}
SAYS = {"scaled": "DLR leaves", "quantised": "no input gradient", "train-mode": "hang on others of the batch"}


def evaluator(**options: Any) -> Masking:
    return Masking(**{"epsilon": 0.1, "samples": 96, "batch_size": 96, "queries": 60, **options})


@pytest.mark.slow
@pytest.mark.parametrize("name", FIXTURES)
def test_models_that_only_look_robust_are_caught(digits: Case, name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="autoprune"):
        found = digits.measure(evaluator(), FIXTURES[name](digits.model))["masking_flags"]
    assert found.value >= 1
    assert SAYS[name] in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"norm": "l2", "epsilon": 0.5}, {"epsilon": 0.05}])
def test_an_honest_model_raises_no_flag(
    digits: Case, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="autoprune"):
        assert digits.measure(evaluator(**options))["masking_flags"].value == 0
    assert not caplog.text


HONEST = Evidence(huge=0.0, fgsm=0.65, pgd=0.6, dlr=0.61, square=0.7, zero_gradients=0.0, dependent=0.0)


@pytest.mark.parametrize(
    ("changed", "count"),
    [
        ({}, 0), ({"huge": 0.1}, 0), ({"huge": 0.11}, 1), ({"fgsm": 0.59}, 0), ({"fgsm": 0.57}, 1), ({"dlr": 0.57}, 1),
        ({"square": 0.57}, 1), ({"zero_gradients": 0.05}, 0), ({"zero_gradients": 0.06}, 1), ({"dependent": 0.06}, 1),
        ({"huge": 0.9, "fgsm": 0.1, "dlr": 0.1, "square": 0.1, "zero_gradients": 1.0, "dependent": 1.0}, 6),
    ],
)  # fmt: skip
def test_each_sign_counts(changed: dict[str, float], count: int) -> None:
    assert len(masking_flags(replace(HONEST, **changed))) == count


def test_what_it_makes_no_sense_on_is_refused(digits: Case) -> None:
    with pytest.raises(TrialError, match="nothing that is right or wrong"):
        digits.measure(evaluator(), task=Regression())
    inputs, targets = digits.data.validation.fetch(torch.arange(8))
    case = digits.with_data(validation=Split.of_tensors(inputs, targets % 2))
    with pytest.raises(TrialError, match="3 classes or more"):
        case.measure(evaluator(), nn.Sequential(digits.model, nn.Linear(10, 2)).eval())
    assert "bounds" in (evaluator().refuses(digits.with_data(bounds=None).data) or "")


def test_metrics() -> None:
    assert [metric.name for metric in evaluator().produces()] == ["masking_flags"]
    assert [metric.name for metric in evaluator(epsilon="auto").produces()] == ["masking_flags", "epsilon"]
