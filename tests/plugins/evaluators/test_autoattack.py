"""AutoAttack through its authors' package: the members agree with ours, in any bounds, leaving no trace."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from autoprune import DataError, TrialError
from autoprune.plugin import Cost, Split
from autoprune_evaluators import Apgd, AutoAttack, Pgd

if TYPE_CHECKING:
    from conftest import Case

COUNT = 48


def few(case: Case, count: int = COUNT) -> Case:
    inputs, targets = case.data.validation.fetch(torch.arange(count))
    return case.with_data(validation=Split.of_tensors(inputs, targets))


@pytest.fixture
def package() -> Any:
    import pyautoattack

    return pyautoattack


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.08), ("l2", 0.4)])
def test_auto_pgd_is_as_strong_as_its_authors(digits: Case, package: Any, norm: Any, epsilon: float) -> None:
    """One member each, whose steps and restarts are those of ours."""
    case = few(digits)
    for member, loss in (("apgd-ce", "cross-entropy"), ("apgd-dlr", "dlr")):
        member_alone = AutoAttack(epsilon=epsilon, norm=norm, attacks=(member,))
        theirs = case.measure(member_alone, of_dense=True)["robust_accuracy"]
        long = Apgd(epsilon=epsilon, norm=norm, loss=loss, steps=100)
        ours = case.measure(long, of_dense=True)["robust_accuracy"]
        assert ours.value == pytest.approx(theirs.value, abs=2 / COUNT)
        assert 0.1 < theirs.value < 0.95
        assert theirs.samples == COUNT


@pytest.mark.slow
def test_measures_what_the_package_says(digits: Case, package: Any) -> None:
    case = few(digits, 20)
    inputs, targets = next(iter(AutoAttack(epsilon=0.08, batch_size=20).batches(case.context())))
    attack = package.AutoAttack(
        case.model, attacks=["apgd-ce", "apgd-t"], version="custom", norm="Linf", eps=0.08, seed=0
    )
    attack.apgd.n_restarts = 1
    moved, _ = attack.run_standard_evaluation(inputs.first, targets, batch_size=20)
    sys.settrace(None)
    with torch.no_grad():
        expected = float((case.model(moved).argmax(1) == targets).float().mean())
    found = case.measure(AutoAttack(epsilon=0.08, batch_size=20), of_dense=True)["robust_accuracy"]
    assert found.value == pytest.approx(expected)
    assert found.value <= case.measure(Pgd(epsilon=0.08))["robust_accuracy"].value


@pytest.mark.slow
def test_other_bounds_are_rescaled(digits: Case, package: Any) -> None:
    """Images in [-1, 3] and an epsilon four times as large are the same attack."""

    class Shifted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = digits.model((x + 1) / 4)
            return result

    case = few(digits)
    inputs, targets = case.data.validation.fetch(torch.arange(COUNT))
    wide = case.with_data(validation=Split.of_tensors(inputs.first * 4 - 1, targets), bounds=(-1.0, 3.0))
    model = Shifted()
    plain = case.measure(AutoAttack(epsilon=0.08, attacks=("apgd-ce",)), of_dense=True)["robust_accuracy"].value
    found = wide.measure(AutoAttack(epsilon=0.32, attacks=("apgd-ce",)), model, of_dense=True)
    assert found["robust_accuracy"].value == pytest.approx(plain, abs=1 / COUNT)


@pytest.mark.slow
def test_all_members_run_and_leave_no_trace(digits: Case, package: Any) -> None:
    case = few(digits, 6)

    def trace(*_: Any) -> None:
        return None

    torch.manual_seed(3)
    expected = float(torch.rand(1))
    torch.manual_seed(3)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        case.measure(AutoAttack(epsilon=0.3, attacks=("fab", "fab-t", "square", "apgd-dlr")))
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
    assert float(torch.rand(1)) == expected
    assert all(parameter.requires_grad and parameter.grad is None for parameter in case.model.parameters())


@pytest.mark.slow
def test_auto_is_the_epsilon_of_pgd(digits: Case, package: Any) -> None:
    evaluator = AutoAttack(epsilon="auto", attacks=("apgd-ce",), samples=32)
    context = digits.context()
    found, pgd = evaluator.evaluate(digits.model, context), Pgd(epsilon="auto").evaluate(digits.model, context)
    assert found["epsilon"] == pgd["epsilon"]


def test_what_it_cannot_attack_is_refused(digits: Case, package: Any) -> None:
    case = few(digits, 8)
    inputs, _ = case.data.validation.fetch(torch.arange(8))

    class Fewer(nn.Module):
        def __init__(self, count: int) -> None:
            super().__init__()
            self.count = count

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = digits.model(x.view(-1, 1, 8, 8))[:, : self.count]
            return result

    three, ten = Fewer(3), Fewer(10)
    for model, images, message in (
        (three, inputs.first, r"apgd-t takes 4 classes or more, the model has 3: write attacks: \[apgd-ce, fab"),
        (ten, inputs.first.flatten(1), r"autoattack is of images.*\(\d, 64\) float32"),
    ):
        with torch.no_grad():
            targets = model(images).argmax(1)
        spoilt = case.with_data(validation=Split.of_tensors(images, targets))
        with pytest.raises(TrialError, match=message):
            spoilt.measure(AutoAttack(epsilon=0.1), model, dense=model)


def test_the_package_is_asked_for(digits: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyautoattack" else find(name))
    with pytest.raises(DataError, match=r"needs the package pyautoattack: pip install 'autoprune\[pyautoattack\]'"):
        digits.measure(AutoAttack(epsilon=0.1))


def test_options(digits: Case) -> None:
    (metric,) = AutoAttack(epsilon=0.1).produces()
    assert (metric.name, metric.direction, metric.cost) == ("robust_accuracy", "maximize", Cost.ATTACK)
    assert "2/255" in (AutoAttack(epsilon=2).refuses(digits.data) or "")
    assert "bounds" in (AutoAttack(epsilon=0.1).refuses(replace(digits.data, bounds=None)) or "")
    for wrong in ({"attacks": []}, {"attacks": ["fab", "fab"]}, {"attacks": ["pgd"]}, {"norm": "l1"}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            AutoAttack.model_validate({"epsilon": 0.1, **wrong})
