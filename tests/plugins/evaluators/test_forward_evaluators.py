"""Accuracy and loss against scikit-learn, and which samples they use."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from scipy import stats
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin import Batch, Data, Measured, Split, Task
from autoprune.toolkit import samples
from autoprune_evaluators import Accuracy, Loss, Pgd
from autoprune_tasks.regression import Regression

if TYPE_CHECKING:
    from conftest import Case


def outputs(case: Case) -> tuple[Tensor, Tensor]:
    inputs, targets = case.data.validation.fetch(torch.arange(len(case.data.validation)))
    with torch.no_grad():
        return inputs.feed(case.model), targets


@pytest.mark.slow
def test_accuracy_is_scikit_learns(case: Case) -> None:
    logits, targets = outputs(case)
    measured = case.measure(Accuracy())["accuracy"]
    assert measured.value == pytest.approx(accuracy_score(targets, logits.argmax(1)))
    assert measured.samples == len(targets)
    reference = stats.binomtest(round(measured.value * len(targets)), len(targets)).proportion_ci(method="wilson")
    assert (measured.low, measured.high) == pytest.approx((reference.low, reference.high))


@pytest.mark.slow
def test_loss_is_scikit_learns(case: Case) -> None:
    logits, targets = outputs(case)
    measured = case.measure(Loss())["loss"]
    assert measured.value == pytest.approx(log_loss(targets, logits.double().softmax(1), labels=range(10)), rel=1e-5)
    each = -logits.double().log_softmax(1).gather(1, targets[:, None]).squeeze(1).numpy()
    interval = stats.norm.interval(0.95, loc=each.mean(), scale=stats.sem(each))
    assert (measured.low, measured.high) == pytest.approx(interval, rel=1e-5)


@pytest.mark.parametrize("evaluator", [Accuracy, Loss])
def test_batch_size_changes_nothing(digits: Case, evaluator: type[Accuracy | Loss]) -> None:
    (whole,) = digits.measure(evaluator(samples=100)).values()
    (odd,) = digits.measure(evaluator(samples=100, batch_size=7)).values()
    assert odd.value == pytest.approx(whole.value, rel=1e-6)
    assert odd.samples == whole.samples == 100


def test_final_takes_the_whole_split(digits: Case) -> None:
    for evaluator in (Accuracy(samples=10), Loss(samples=10)):
        (few,), (all_,) = digits.measure(evaluator).values(), digits.measure(evaluator.final(), split="test").values()
        assert (few.samples, all_.samples) == (10, 400)


def test_it_uses_the_split_of_the_context(digits: Case) -> None:
    shifted = Split.of_tensors((torch.zeros(20, 1, 8, 8),), torch.arange(20) % 10)
    assert digits.with_data(test=shifted).measure(Accuracy(), split="test")["accuracy"].value == 0.1


def test_more_samples_than_there_are_is_the_whole_split(digits: Case) -> None:
    assert digits.measure(Accuracy(samples=10_000)) == digits.measure(Accuracy())


def test_samples_of_a_sorted_split_are_of_all_classes_and_always_the_same(digits: Case) -> None:
    inputs, targets = digits.data.test.fetch(torch.arange(400))
    order = targets.argsort()
    case = digits.with_data(validation=Split.of_tensors(inputs[order], targets[order]))
    seen = [torch.cat([t for _, t in Accuracy(samples=60).batches(case.context(seed=seed))]) for seed in (1, 2)]
    assert len(seen[0].unique()) == 10
    assert torch.equal(*seen)


def counting(split: Split) -> tuple[Split, list[int]]:
    fetched: list[int] = []

    def read(index: Tensor) -> Batch:
        fetched.append(len(index))
        return split.read(index)

    return replace(split, read=read), fetched


def test_batches_are_fetched_once_per_study(digits: Case) -> None:
    split, fetched = counting(digits.data.validation)
    case, cache = digits.with_data(validation=split), {}
    first = case.measure(Accuracy(samples=200, batch_size=50), cache=cache)
    assert sum(fetched) >= 200
    fetched.clear()
    assert case.measure(Accuracy(samples=200, batch_size=50), cache=cache) == first
    assert sum(fetched) <= 1  # one sample tells the size
    case.measure(Accuracy(samples=100, batch_size=50), cache=cache)
    assert sum(fetched) >= 100


def test_what_is_too_big_for_the_device_is_not_kept(digits: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = digits.measure(Accuracy())
    monkeypatch.setattr(samples, "_KEPT_BYTES", 1000)
    cache: dict[tuple[object, ...], object] = {}
    assert digits.measure(Accuracy(), cache=cache) == expected
    assert not [key for key in cache if "samples" in key[0]]


def test_every_batch_is_told_of(digits: Case) -> None:
    """What is known after a batch is what scikit-learn makes of the samples so far."""
    evaluator = Accuracy(samples=50, batch_size=20)
    told: list[Mapping[str, Measured]] = []
    result = digits.measure(evaluator, report=told.append)
    assert [set(partial) for partial in told] == [{"accuracy"}] * 3
    assert [partial["accuracy"].samples for partial in told] == [20, 40, 50]
    batches = list(evaluator.batches(digits.context()))
    images, targets = (torch.cat(parts) for parts in zip(*((i.first, targets) for i, targets in batches), strict=True))
    with torch.no_grad():
        predicted = digits.model(images).argmax(1)
    for measured in (partial["accuracy"] for partial in told):
        count = measured.samples
        assert measured.value == pytest.approx(accuracy_score(targets[:count], predicted[:count]))
        interval = stats.binomtest(round(measured.value * count), count).proportion_ci(method="wilson")
        assert (measured.low, measured.high) == pytest.approx((interval.low, interval.high))
    assert told[-1]["accuracy"] == result["accuracy"].model_copy(update={"difference": None})


def test_a_measurement_that_is_given_up_ends_there(digits: Case) -> None:
    class Enough(BaseException):
        pass

    def give_up(measured: Mapping[str, Measured]) -> None:
        told.append(measured["accuracy"].samples)
        if len(told) == 2:
            raise Enough

    told: list[int | None] = []
    seen: list[int] = []
    hook = digits.model.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    try:
        with pytest.raises(Enough):
            digits.measure(Accuracy(samples=100, batch_size=20), report=give_up)
    finally:
        hook.remove()
    assert told == [20, 40]
    assert seen == [20, 20]


@pytest.mark.parametrize("inference", [True, False])
def test_batches_fetched_for_accuracy_serve_an_attack(digits: Case, inference: bool) -> None:
    cache: dict[tuple[object, ...], object] = {}
    with torch.inference_mode(inference):
        digits.measure(Accuracy(samples=64, batch_size=32), cache=cache)
    kept = [key for key in cache if "samples" in key[0]]
    attacked = digits.measure(Pgd(epsilon=0.1, samples=64, batch_size=32, steps=2), cache=cache)
    assert [key for key in cache if "samples" in key[0]] == kept
    assert attacked == digits.measure(Pgd(epsilon=0.1, samples=64, batch_size=32, steps=2))


@pytest.mark.parametrize("evaluator", [Accuracy(), Loss(), Pgd(epsilon=0.1, steps=2)])
def test_the_model_is_left_as_it_was(digits: Case, evaluator: Accuracy | Loss | Pgd) -> None:
    model = copy.deepcopy(digits.model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    digits.measure(evaluator, model)
    assert not any(module.training for module in model.modules())
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_batch_norm_left_in_train_mode_would_show(digits: Case) -> None:
    """Evaluators rely on the host's ``eval()``: in train mode the values differ, and measuring changes the model."""
    model = copy.deepcopy(digits.model)
    statistics = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = statistics[0].running_mean.clone()
    trained = digits.measure(Loss(batch_size=16), model.train())["loss"].value
    assert trained != pytest.approx(digits.measure(Loss())["loss"].value, rel=1e-3)
    assert not torch.equal(before, statistics[0].running_mean)


class Shares(Task):
    """Two numbers, each right if it is near enough."""

    name = "shares"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().sum(1)

    def divergence(self, outputs: Tensor, dense: Tensor) -> Tensor:
        return self.loss(outputs, dense)

    def agreement(self, outputs: Tensor, dense: Tensor) -> Tensor:
        return self.correct(outputs, dense)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs - targets).abs() < 1).float().mean(1)


def regression(digits: Case, model: nn.Module, *, by_name: bool = False) -> Case:
    """50 samples of two numbers that are to become two numbers."""
    generator = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randn(50, 2, generator=generator) for _ in range(2))
    split = Split.of_tensors({"x": inputs} if by_name else inputs, targets)
    return type(digits)(model, Data(split, split, split))


def test_accuracy_is_the_mean_share_of_what_the_task_calls_right(digits: Case) -> None:
    case = regression(digits, nn.Identity())
    inputs, targets = case.data.validation.fetch(torch.arange(50))
    shares = ((inputs.first - targets).abs() < 1).double().mean(1).numpy()
    measured = case.measure(Accuracy(batch_size=16), task=Shares())["accuracy"]
    assert measured.value == pytest.approx(shares.mean())
    assert 0.2 < measured.value < 0.8
    assert measured.samples == 50
    interval = stats.norm.interval(0.95, loc=shares.mean(), scale=stats.sem(shares))
    assert (measured.low, measured.high) == pytest.approx(interval)


def test_loss_is_that_of_the_task(digits: Case) -> None:
    case = regression(digits, nn.Identity())
    inputs, targets = case.data.validation.fetch(torch.arange(50))
    measured = case.measure(Loss(), task=Regression())["loss"]
    assert measured.value == pytest.approx(mean_squared_error(targets, inputs.first))


def test_accuracy_of_a_task_without_right_and_wrong_is_refused(digits: Case) -> None:
    with pytest.raises(TrialError, match=r"^regression has nothing that is right or wrong; use loss$"):
        regression(digits, nn.Identity()).measure(Accuracy(), task=Regression())


@pytest.mark.parametrize("evaluator", [Accuracy(), Loss()])
def test_a_task_that_averages_over_the_batch_is_told(digits: Case, evaluator: Accuracy | Loss) -> None:
    class Averages(Shares):
        name = "averages"

        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return super().loss(outputs, targets).mean()

        def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return ((outputs - targets).abs() < 1).float()

    told = {"accuracy": r"correct of task averages gives \(50, 2\)", "loss": r"loss of task averages gives \(\)"}
    with pytest.raises(TrialError, match=told[evaluator.name]):
        regression(digits, nn.Identity()).measure(evaluator, task=Averages())


def test_inputs_by_name_reach_the_model(digits: Case) -> None:
    class Named(nn.Module):
        def forward(self, *, x: Tensor) -> Tensor:
            return x

    expected = regression(digits, nn.Identity()).measure(Loss(), task=Regression())
    assert regression(digits, Named(), by_name=True).measure(Loss(), task=Regression()) == expected


def test_labels_outside_the_outputs_fail_the_trial(digits: Case) -> None:
    """They would count as wrong predictions, and nothing would tell."""
    inputs, targets = digits.data.validation.fetch(torch.arange(20))
    case = digits.with_data(validation=Split.of_tensors(inputs, targets + 1))
    with pytest.raises(TrialError, match="class 10, but the model has 10 outputs"):
        case.measure(Accuracy())
