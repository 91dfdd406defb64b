"""Integrated gradients and their rank correlation: linear models by hand, completeness, SciPy's Spearman."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from autoprune import DataError, TrialError
from autoprune.plugin import EvaluationContext, Inputs, Measured, Split, Task
from autoprune.testing import Bench
from autoprune_evaluators import ExplanationAgreement
from autoprune_evaluators.explanations import _rank_correlations
from autoprune_tasks.classification import Classification
from autoprune_tasks.regression import Regression
from tests.plugins.evaluators.answers import context


def samples(count: int = 50, width: int = 12) -> Tensor:
    return torch.rand(count, width, generator=torch.Generator().manual_seed(0))


def linear(seed: int, classes: int = 3, width: int = 12) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(width, classes).eval()


def deep(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 3)).eval()


def of(dense: nn.Module, inputs: Tensor | None = None, task: Task | None = None, **changes: Any) -> EvaluationContext:
    inputs = samples() if inputs is None else inputs
    targets = torch.zeros(len(inputs), dtype=torch.int64)
    ctx = context(inputs, targets, task or Classification(), dense=dense, **changes)
    return replace(ctx, data=replace(ctx.data, bounds=(-1.0, 1.0)))


def agreement(model: nn.Module, ctx: EvaluationContext, **options: Any) -> Measured:
    found = ExplanationAgreement(**options).evaluate(model, ctx)["explanation_agreement"]
    assert isinstance(found, Measured)
    return found


@pytest.mark.parametrize(("baseline", "start"), [("zeros", 0.0), ("low", -1.0)])
def test_of_linear_models_attributions_are_weights_times_inputs(baseline: Any, start: float) -> None:
    model, dense, inputs = linear(1), linear(2), samples()
    classes = dense(inputs).argmax(1)
    expected = [
        stats.spearmanr(*(((image - start) * each.weight[chosen]).detach() for each in (model, dense))).statistic
        for image, chosen in zip(inputs, classes, strict=True)
    ]
    found = agreement(model, of(dense), baseline=baseline, steps=3, batch_size=20)
    assert found.value == pytest.approx(sum(expected) / 50, abs=1e-9)
    assert found.samples == 50
    half = 1.96 * torch.tensor(expected).std() / 50**0.5
    assert found.high - found.value == pytest.approx(float(half), rel=1e-3)


def test_attributions_add_up_to_the_difference_of_outputs() -> None:
    model, inputs = deep(1), samples()
    evaluator, ctx = ExplanationAgreement(steps=64, baseline="low"), of(deep(1))
    classes, found = evaluator._attributions(model, Inputs.of(inputs), None, ctx)
    outputs, starts = (model(each).detach() for each in (inputs, torch.full_like(inputs, -1.0)))
    assert torch.equal(classes, outputs.argmax(1))
    expected = (outputs - starts).gather(1, classes[:, None]).squeeze(1)
    assert (found.sum(1) - expected).abs().max() < 1e-3 * float(expected.abs().max())
    few = ExplanationAgreement(steps=1, baseline="low")._attributions(model, Inputs.of(inputs), None, ctx)[1]
    assert (few.sum(1) - expected).abs().max() > 0.01  # one gradient in the middle is not enough


def test_rank_correlations_are_scipys_with_ties() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(20, 30, generator=generator).mul(2).round() for _ in range(2))
    found, varies = _rank_correlations(ours, theirs)
    expected = [stats.spearmanr(*pair).statistic for pair in zip(ours, theirs, strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert varies.all()


def test_the_dense_model_agrees_with_itself_and_its_mirror_image_does_not() -> None:
    dense = deep(3)
    for itself in (agreement(dense, of(dense)), agreement(dense, of(dense, of_dense=True))):
        assert (itself.value, itself.low, itself.high) == (pytest.approx(1.0), None, None)

    class Mirrored(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -dense(x)

    assert agreement(Mirrored(), of(dense)).value == pytest.approx(-1.0)


def test_who_looks_at_nothing_agrees_by_nothing() -> None:
    dead = linear(1)
    nn.init.zeros_(dead.weight)
    assert agreement(dead, of(linear(2))).value == 0.0
    with pytest.raises(TrialError, match="to the dense model all values of every sample are the same"):
        agreement(linear(1), of(dead))
    inputs = samples()
    inputs[:20] = 0.0  # the baseline itself, to which nothing adds anything
    found = agreement(linear(1), of(linear(2), inputs))
    assert found.value == pytest.approx(agreement(linear(1), of(linear(2), inputs[20:])).value)


def test_no_gradient_stays_and_the_dense_model_is_explained_once() -> None:
    model, dense, cache = deep(1), deep(2), {}
    first = agreement(model, of(dense, cache=cache), batch_size=20)

    class Gone(nn.Module):
        def forward(self, *_: Any) -> Any:
            raise AssertionError("the dense model is asked again")

    with torch.no_grad():  # as in a search
        assert agreement(model, of(Gone(), cache=cache), batch_size=20) == first
    with torch.inference_mode():
        assert agreement(model, of(dense), batch_size=20) == first
    assert all(each.grad is None and each.requires_grad for each in (*model.parameters(), *dense.parameters()))


def test_attributions_that_are_not_kept_are_made_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = agreement(deep(1), of(deep(2)))
    monkeypatch.setattr("autoprune_evaluators.explanations._KEPT_BYTES", 1)
    assert agreement(deep(1), of(deep(2))) == kept


def test_what_is_known_is_told() -> None:
    told: list[Mapping[str, Measured]] = []
    found = agreement(deep(1), of(deep(2), report=told.append), batch_size=20)
    assert [each["explanation_agreement"].samples for each in told] == [20, 40, 50]
    assert told[-1] == {"explanation_agreement": found}


@pytest.mark.slow
def test_pruned_models_agree_less_the_more_is_cut() -> None:
    bench = Bench()
    values = [
        bench.measure(ExplanationAgreement(steps=8), cut_units=bench.uniform(ratio))["explanation_agreement"].value
        for ratio in (0.0, 0.2, 0.8)
    ]
    assert values[0] == pytest.approx(1.0, abs=1e-3)
    assert values[0] > values[1] > values[2]


class Rounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 0.5).float()[:, :3]


def test_what_it_makes_no_sense_of_is_refused() -> None:
    with pytest.raises(TrialError, match=r"have no gradient to the inputs: use agreement$"):
        agreement(Rounded(), of(linear(1)))
    with pytest.raises(TrialError, match="the model's outputs or gradients are NaN"):
        agreement(linear(1), of(linear(2), samples() * float("nan")))
    numbers = of(linear(1), task=Regression())
    split = Split.of_tensors(samples(), torch.rand(50, 3))
    numbers = replace(numbers, data=replace(numbers.data, validation=split))
    with pytest.raises(TrialError, match=r"one predicted class, or number, per sample; task regression has outputs"):
        agreement(linear(1), numbers)
    tokens = of(linear(1), torch.randint(5, (9, 12)))
    assert "inputs that are real numbers; the first input is (1, 12) int64" in str(
        ExplanationAgreement().refuses(tokens.data)
    )
    with pytest.raises(DataError, match="explanation-agreement is of inputs that are real numbers"):
        agreement(linear(1), tokens)
    unbound = replace(of(linear(1)).data, bounds=None)
    assert "baseline low is the lower end" in str(ExplanationAgreement(baseline="low").refuses(unbound))
    assert ExplanationAgreement().refuses(unbound) is None


def test_a_single_number_is_explained() -> None:
    ctx = of(linear(1, classes=1), task=Regression())
    split = Split.of_tensors(samples(), torch.rand(50, 1))
    ctx = replace(ctx, data=replace(ctx.data, validation=split))
    expected = [
        stats.spearmanr((image * linear(2, classes=1).weight[0]).detach(), (image * ctx.dense.weight[0]).detach())
        for image in samples()
    ]
    found = agreement(linear(2, classes=1), ctx)
    assert found.value == pytest.approx(sum(each.statistic for each in expected) / 50, abs=1e-9)
