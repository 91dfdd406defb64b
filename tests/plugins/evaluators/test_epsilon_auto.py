"""An epsilon that is found on the dense model."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin import Split
from autoprune_evaluators import Apgd, Fgsm, Pgd, Square, _attacking
from autoprune_evaluators._epsilon import calibrated

if TYPE_CHECKING:
    from conftest import Case

ATTACKS = (
    Fgsm(epsilon="auto"),
    Pgd(epsilon="auto"),
    Pgd(epsilon="auto", norm="l2"),
    Apgd(epsilon="auto", norm="l2", steps=10),
    Apgd(epsilon="auto", loss="dlr"),
)


@pytest.mark.slow
@pytest.mark.parametrize("evaluator", ATTACKS, ids=lambda each: f"{each.name}-{each.norm}")
def test_the_dense_model_keeps_between_40_and_80_percent(digits: Case, evaluator: Any) -> None:
    found = digits.measure(evaluator.model_copy(update={"samples": 200}))
    assert found["robust_accuracy"].value == pytest.approx(0.6, abs=0.12)
    written = evaluator.model_copy(update={"samples": 200, "epsilon": found["epsilon"].value})
    assert digits.measure(written)["robust_accuracy"] == found["robust_accuracy"]
    assert f"{found['epsilon'].value:.3g}" == f"{found['epsilon'].value:g}"


@pytest.mark.slow
def test_square_finds_its_own(digits: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_attacking, "GAUGED", 16)  # 500 queries of each take their time
    found = digits.measure(Square(epsilon="auto", samples=64))
    assert 0.35 < found["robust_accuracy"].value < 0.85


def test_it_is_found_on_the_dense_models_validation_split_alone_and_once(
    digits: Case, caplog: pytest.LogCaptureFixture
) -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            result: Tensor = digits.model(x)
            return result

    images, targets = digits.data.validation.fetch(torch.arange(30))
    case = digits.with_data(test=Split.of_tensors(images, targets))
    evaluator, dense = Pgd(epsilon="auto", samples=40), Counts()
    ctx = case.context(dense=dense, cache={})
    with caplog.at_level(logging.INFO, logger="autoprune"):
        first = evaluator.evaluate(digits.model, ctx)
    assert f"pgd: epsilon is {first['epsilon']:g}, which leaves the dense model" in caplog.text
    calls = dense.calls

    class Worse(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = digits.model(x * 0.6)
            return result

    assert evaluator.evaluate(Worse(), ctx)["epsilon"] == first["epsilon"]
    assert dense.calls == calls
    assert evaluator.final().evaluate(digits.model, replace(ctx, split="test"))["epsilon"] == first["epsilon"]


@pytest.mark.parametrize("clean", [0.99, 0.8, 0.7, 0.45])
@pytest.mark.parametrize("largest", [1.0, 28.0, 255.0])
def test_a_falling_curve_is_met_where_it_is_wanted(clean: float, largest: float) -> None:
    looks: list[float] = []

    def robust(epsilon: float) -> float:
        looks.append(epsilon)
        return clean / (1 + epsilon / (0.01 * largest))

    found = calibrated(robust, largest, name="pgd")
    assert 0.4 <= robust(found) <= 0.8
    assert robust(found) == pytest.approx(min(0.6, (0.4 + clean) / 2), abs=0.031)
    assert robust(found) < clean - 0.01
    assert len(looks) < 20


@pytest.mark.parametrize(
    ("robust", "told"),
    [
        (lambda epsilon: 0.3, r"but at 6.1e-05 it has 30%; take a better model, or write an epsilon"),
        (lambda epsilon: 0.97, r"but at 1 it has 97%; gradients may be masked"),
        (lambda epsilon: 0.97 * (epsilon < 0.1), r"40% to 80% robust accuracy, but .* nothing is in between"),
    ],
)
def test_where_no_epsilon_gets_there_it_says_so(robust: Any, told: str) -> None:
    with pytest.raises(TrialError, match=told) as error:
        calibrated(robust, 1.0, name="pgd")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("pgd: epsilon: auto")


def test_declared_where_it_is_found_and_written_as_it_is() -> None:
    auto, written = Pgd(epsilon="auto", label="a"), Pgd(epsilon=0.1)
    assert [metric.name for metric in auto.produces()] == ["robust_accuracy_a", "epsilon_a"]
    assert [metric.name for metric in written.produces()] == ["robust_accuracy"]
    assert Pgd.model_validate(auto.reference()) == auto
    assert auto.final().epsilon == "auto"


@pytest.mark.parametrize("wrong", ["automatic", "two", 0, -1, "nan", None, [0.1]])
def test_what_is_no_epsilon_is_refused_in_one_line(wrong: Any) -> None:
    with pytest.raises(ValidationError) as error:
        Pgd.model_validate({"epsilon": wrong})
    (mistake,) = error.value.errors()
    assert mistake["loc"] == ("epsilon",)
    assert "2/255" in mistake["msg"]
    assert "\n" not in mistake["msg"]


def test_the_schema_takes_it() -> None:
    import jsonschema

    schema = TypeAdapter(Fgsm).json_schema()
    jsonschema.validate({"epsilon": "auto"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"epsilon": "automatic"}, schema)
