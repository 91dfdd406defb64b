"""The loss under attack: against closed forms of a linear model, and against Foolbox."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from autoprune import DataError, TrialError
from autoprune.plugin import Cost, Data, Measured, Split
from autoprune_evaluators import Loss, RobustLoss
from autoprune_tasks.regression import Regression
from tests.plugins.evaluators.answers import context

if TYPE_CHECKING:
    from conftest import Case


class Linear(nn.Module):
    def __init__(self, weight: Tensor, power: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.power = power

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight) ** self.power


def numbers() -> tuple[Tensor, Tensor, Tensor]:
    """A linear model's weight, (5,), inputs (60, 5) far from their bounds, and numbers that are 1 to 3 off."""
    generator = torch.Generator().manual_seed(0)
    weight, inputs = torch.randn(5, generator=generator), torch.rand(60, 5, generator=generator) * 0.4 + 0.3
    off = (torch.rand(60, generator=generator) * 2 + 1) * torch.randn(60, generator=generator).sign()
    return weight, inputs, inputs @ weight + off


def measured(evaluator: RobustLoss, model: nn.Module, inputs: Tensor, targets: Tensor, **changes: Any) -> Measured:
    split = Split.of_tensors(inputs, targets)
    data = Data(split, split, split, bounds=(0.0, 1.0))
    fields = {"data": data, "dense": model, **changes}
    (found,) = evaluator.evaluate(model, context(inputs, targets, Regression(), **fields)).values()
    assert isinstance(found, Measured)
    return found


@pytest.mark.parametrize(("norm", "dual", "near"), [("linf", 1, 1e-5), ("l2", 2, 5e-3)])
def test_of_a_linear_regression_it_is_known(norm: Any, dual: int, near: float) -> None:
    """(|r| + epsilon * |w|)², with the dual norm of the weights: Xu, Caramanis and Mannor, arXiv:0811.1790."""
    weight, inputs, targets = numbers()
    expected = ((inputs @ weight - targets).abs() + 0.1 * weight.norm(p=dual)).square()
    found = measured(RobustLoss(epsilon=0.1, norm=norm, steps=20, samples=None), Linear(weight), inputs, targets)
    assert found.value == pytest.approx(float(expected.mean()), rel=near)
    assert found.low is not None
    half = 1.959964 * float(expected.std()) / math.sqrt(60)
    assert found.value - found.low == pytest.approx(half, rel=1e-2)
    assert found.samples == 60


def test_the_difference_is_from_the_dense_model() -> None:
    weight, inputs, targets = numbers()
    evaluator, other = RobustLoss(epsilon=0.1, samples=None), weight * 0.8
    both = [((inputs @ each - targets).abs() + 0.1 * each.abs().sum()).square() for each in (other, weight)]
    found = measured(evaluator, Linear(other), inputs, targets, dense=Linear(weight))
    assert found.difference is not None
    assert found.difference.low is not None
    assert found.difference.value == pytest.approx(float((both[0] - both[1]).mean()), rel=1e-3)
    half = 1.959964 * float((both[0] - both[1]).std()) / math.sqrt(60)
    assert found.difference.value - found.difference.low == pytest.approx(half, rel=2e-2)


def test_the_largest_loss_on_the_way_counts(digits: Case) -> None:
    """Steps that are far too long jump over it; the loss never is below that of the input itself."""
    clean = digits.measure(Loss(samples=64))["loss"].value
    tiny = digits.measure(RobustLoss(epsilon=1e-7, samples=64))["robust_loss"].value
    assert tiny == pytest.approx(clean, rel=1e-3)
    few, many = (digits.measure(RobustLoss(epsilon=0.1, samples=64, restarts=each))["robust_loss"] for each in (1, 3))
    assert clean < few.value <= many.value


def test_of_a_classifier_it_is_what_foolbox_finds(digits: Case) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import foolbox
    inputs, targets = digits.data.validation.fetch(torch.arange(64))
    case = digits.with_data(validation=Split.of_tensors(inputs, targets))
    attack = foolbox.attacks.LinfPGD(steps=20, abs_stepsize=0.0125, random_start=False)
    model = foolbox.PyTorchModel(case.model, bounds=(0, 1), device="cpu")
    there = attack.run(model, inputs.first, foolbox.criteria.Misclassification(targets), epsilon=0.1)
    for parameter in case.model.parameters():
        parameter.grad = None
    with torch.no_grad():
        expected = float(cross_entropy(case.model(there), targets))
    found = case.measure(RobustLoss(epsilon=0.1, steps=20))["robust_loss"]
    assert found.value == pytest.approx(expected, rel=0.05)


def test_batches_are_told_of(digits: Case) -> None:
    told: list[Any] = []
    evaluator = RobustLoss(epsilon=0.1, steps=2, samples=50, batch_size=20)
    found = digits.measure(evaluator, report=told.append, of_dense=True)["robust_loss"]
    assert [each["robust_loss"].samples for each in told] == [20, 40, 50]
    assert told[-1]["robust_loss"] == found


def test_what_has_no_loss_to_climb_is_refused() -> None:
    weight, inputs, targets = numbers()

    class Rounded(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).detach()

    evaluator = RobustLoss(epsilon=0.1, samples=None)
    with pytest.raises(TrialError, match="no gradient to the inputs"):
        measured(evaluator, Rounded(weight), inputs, targets)
    with pytest.raises(TrialError, match="robust-loss: a loss under the attack is not finite"):
        measured(evaluator, Linear(-weight.abs(), 0.5), inputs, targets)
    with pytest.raises(DataError, match=r"inputs go from 1\.3\d* to 1\.\d*;"):
        measured(evaluator, Linear(weight), inputs + 1, targets)


def test_options(digits: Case) -> None:
    evaluator = RobustLoss(epsilon="8/255", steps=10)
    final = evaluator.final()
    assert (final.steps, final.restarts, final.epsilon) == (20, 2, 8 / 255)
    (metric,) = evaluator.produces()
    assert (metric.name, metric.direction, metric.cost) == ("robust_loss", "minimize", Cost.ATTACK)
    assert "2/255" in (RobustLoss(epsilon=2).refuses(digits.data) or "")
    assert "bounds" in (evaluator.refuses(digits.with_data(bounds=None).data) or "")
    for wrong in ({"steps": 0}, {"epsilon": "auto"}, {"restarts": 0}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            RobustLoss.model_validate({"epsilon": 0.1, **wrong})
