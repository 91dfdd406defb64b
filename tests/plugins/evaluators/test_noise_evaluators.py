"""Noise on inputs: its moments, that it is the same for all models, and what it is asked of in vain."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from torch import Tensor, nn

from autoprune import DataError, TrialError
from autoprune.plugin import Data, EvaluationContext, Measured, Split
from autoprune_evaluators import Accuracy, GaussianNoise, SaltAndPepper
from autoprune_evaluators._perturbed import PerturbedEvaluator
from autoprune_tasks.classification import Classification
from autoprune_tasks.regression import Regression
from tests.plugins.evaluators.answers import Answer, context

if TYPE_CHECKING:
    from conftest import Case

EVALUATORS = (GaussianNoise(deviation="64/255"), SaltAndPepper(share=0.3))


def grey(value: float = 0.5, bounds: tuple[float, float] | None = (0.0, 1.0), **changes: Any) -> EvaluationContext:
    """Images of one grey."""
    ctx = context(torch.full((200, 3, 10, 10), value), torch.zeros(200, dtype=torch.int64), Classification(), **changes)
    return replace(ctx, data=replace(ctx.data, bounds=bounds))


def seen(evaluator: PerturbedEvaluator, ctx: EvaluationContext) -> Tensor:
    return torch.cat([inputs.first for inputs, _ in evaluator.batches(ctx)])


@pytest.mark.parametrize("deviation", [0.02, "8/255"])
def test_gaussian_noise_is_normal_and_has_its_deviation(deviation: Any) -> None:
    evaluator = GaussianNoise(deviation=deviation)
    noise = (seen(evaluator, grey()) - 0.5).double()
    assert float(noise.std()) == pytest.approx(0.02 if deviation == 0.02 else 8 / 255, rel=0.01)
    assert abs(float(noise.mean())) < 4 * evaluator.deviation / 60000**0.5
    assert stats.kstest(noise.flatten() / evaluator.deviation, "norm").pvalue > 1e-3
    assert not torch.equal(noise[0], noise[1])


def test_noise_is_clipped_to_the_bounds() -> None:
    found = seen(GaussianNoise(deviation=0.5), grey(value=-1.0, bounds=(-1.0, 1.0)))
    assert (found.min(), found.max()) == (-1.0, 1.0)
    assert float((found == -1).double().mean()) == pytest.approx(0.5, abs=0.01)


def test_salt_and_pepper_lose_their_share_half_to_either_side() -> None:
    found = seen(SaltAndPepper(share=0.3), grey(value=0.25, bounds=(-2.0, 3.0)))
    for value, share in ((-2.0, 0.15), (3.0, 0.15), (0.25, 0.7)):
        assert float((found == value).double().mean()) == pytest.approx(share, abs=0.006)
    assert set(found.unique().tolist()) == {-2.0, 0.25, 3.0}


@pytest.mark.parametrize("evaluator", EVALUATORS, ids=lambda each: each.name)
def test_noise_is_the_same_for_every_model_and_kept(evaluator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = grey()
    first = list(evaluator.batches(ctx))
    again = list(evaluator.batches(ctx))
    assert all(one[0].first is other[0].first for one, other in zip(first, again, strict=True))
    assert torch.equal(seen(evaluator, grey()), seen(evaluator, ctx))
    assert not torch.equal(seen(evaluator.model_copy(update={"seed": 1}), ctx), seen(evaluator, ctx))
    monkeypatch.setattr("autoprune_evaluators._perturbed._KEPT_BYTES", 1)
    assert torch.equal(seen(evaluator, grey()), seen(evaluator, ctx))


@pytest.mark.slow
def test_little_noise_changes_nothing_and_much_of_it_most(digits: Case) -> None:
    (clean,) = digits.measure(Accuracy()).values()
    for little, much in (
        (GaussianNoise(deviation=1e-6), GaussianNoise(deviation=1.0)),
        (SaltAndPepper(share=1e-6), SaltAndPepper(share=0.9)),
    ):
        (found,) = digits.measure(little).values()
        assert (found.value, found.low, found.high) == (clean.value, clean.low, clean.high)
        (found,) = digits.measure(much).values()
        assert found.value < 0.6 * clean.value
        assert found.samples == 400


@pytest.mark.slow
def test_the_accuracy_is_that_on_noisy_images_and_differences_are_paired(digits: Case) -> None:
    evaluator = GaussianNoise(deviation=0.2, seed=3)
    torch.manual_seed(5)
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    (found,) = digits.measure(evaluator, other).values()
    (dense,) = digits.measure(evaluator, of_dense=True).values()
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    inputs, targets = digits.data.validation.fetch(order)
    generator = torch.Generator().manual_seed(3)
    noise = torch.cat([torch.randn(part.shape, generator=generator) for part in inputs.first.split(128)])
    with torch.no_grad():
        right = [
            (model((inputs.first + 0.2 * noise).clamp(0, 1)).argmax(1) == targets) for model in (other, digits.model)
        ]
    assert found.value == pytest.approx(float(right[0].double().mean()))
    assert dense.value == pytest.approx(float(right[1].double().mean()))
    assert dense.difference is None
    assert found.difference is not None
    assert found.difference.value == pytest.approx(found.value - dense.value)


@pytest.mark.parametrize("evaluator", EVALUATORS, ids=lambda each: each.name)
def test_inputs_without_bounds_are_refused(evaluator: PerturbedEvaluator) -> None:
    ctx = grey(bounds=None)
    assert f"{evaluator.name} changes inputs that have bounds" in str(evaluator.refuses(ctx.data))
    with pytest.raises(DataError, match=f"^{evaluator.name} changes inputs that have bounds, such as images"):
        evaluator.evaluate(Answer(), ctx)
    split = Split.of_tensors(torch.randint(9, (20, 4)), torch.zeros(20, dtype=torch.int64))
    tokens = replace(ctx, data=Data(split, split, split, bounds=(0.0, 9.0)))
    with pytest.raises(DataError, match=r"real numbers; the first input is \(20, 4\) int64$"):
        evaluator.evaluate(Answer(), tokens)


@pytest.mark.parametrize("value", [1.5, float("nan")])
def test_inputs_outside_their_bounds_are_refused(value: float) -> None:
    with pytest.raises(DataError, match=r"^gaussian-noise keeps to the data's bounds, 0 to 1, but inputs go from"):
        EVALUATORS[0].evaluate(Answer(), grey(value=value))


def test_a_deviation_of_more_than_the_range_is_refused() -> None:
    assert "more than the inputs' whole range, 0 to 1" in str(GaussianNoise(deviation=8).refuses(grey().data))
    assert GaussianNoise(deviation=8).refuses(grey(bounds=(0.0, 255.0)).data) is None
    for wrong in ("8 of 255", 0, -1, True):
        with pytest.raises(ValidationError):
            GaussianNoise(deviation=wrong)
    for share in (0, 1.1):
        with pytest.raises(ValidationError):
            SaltAndPepper(share=share)


def test_tasks_without_right_and_wrong_have_no_accuracy() -> None:
    numbers = torch.rand(8, 2)
    ctx = context(numbers, numbers, Regression())
    ctx = replace(ctx, data=replace(ctx.data, bounds=(0.0, 1.0)))
    with pytest.raises(TrialError, match="regression has nothing that is right or wrong"):
        GaussianNoise(deviation=0.1).evaluate(Answer(), ctx)


def test_fewer_samples_than_asked_are_all() -> None:
    class First(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.eye(2)[torch.zeros(len(images), dtype=torch.int64)]

    found = GaussianNoise(deviation=0.1, samples=1000).evaluate(First(), grey(dense=First()))["gaussian_accuracy"]
    assert isinstance(found, Measured)
    assert (found.value, found.samples) == (1.0, 200)
