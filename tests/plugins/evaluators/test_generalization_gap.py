"""The gap between splits, against its definition and published intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from autoprune import TrialError
from autoprune.plugin import EvaluationContext, Measured, Split, Task
from autoprune.testing import Bench
from autoprune_evaluators import Accuracy, GeneralizationGap, Loss
from autoprune_tasks.classification import Classification
from autoprune_tasks.regression import Regression
from tests.plugins.evaluators.answers import Answer, context


def splits(train: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], task: Task, **changes: Any) -> EvaluationContext:
    ctx = context(*other, task, **changes)
    return replace(ctx, data=replace(ctx.data, train=Split.of_tensors(*train)))


def of_right(right: int, samples: int) -> tuple[Tensor, Tensor]:
    """So many samples, so many of them predicted right."""
    targets = torch.zeros(samples, dtype=torch.int64)
    return torch.eye(2)[(torch.arange(samples) >= right).long()], targets


def gap(ctx: EvaluationContext, **options: Any) -> Measured:
    found = GeneralizationGap(**options).evaluate(Answer(), ctx)["generalization_gap"]
    assert isinstance(found, Measured)
    return found


def test_the_interval_is_newcombes() -> None:
    """His table II, method 10."""
    published = {
        (56, 70, 48, 80): (0.0524, 0.3339),
        (9, 10, 3, 10): (0.1705, 0.8090),
        (10, 10, 0, 10): (0.6075, 1.0),
    }
    for (right, samples, others, of), (low, high) in published.items():
        found = gap(splits(of_right(right, samples), of_right(others, of), Classification()))
        assert found.value == pytest.approx(right / samples - others / of)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
        assert found.samples == of


def test_of_numbers_it_is_the_loss_that_grows() -> None:
    generator = torch.Generator().manual_seed(0)
    train, other = (torch.randn(count, 3, generator=generator) for count in (200, 90))
    ctx = splits((train, train + 0.1), (other, other + torch.randn(90, 3, generator=generator)), Regression())
    found = gap(ctx, batch_size=40)
    (each,) = Loss().evaluate(Answer(), ctx).values()
    assert isinstance(each, Measured)
    assert found.value == pytest.approx(each.value - 0.01, rel=1e-5)
    assert found.high - found.low == pytest.approx(each.high - each.low, rel=1e-3)  # train losses are all the same


def test_differences_are_those_of_the_gaps() -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(count: int, sure: float) -> tuple[Tensor, Tensor]:
        targets = torch.randint(3, (count,), generator=generator)
        return torch.randn(count, 3, generator=generator) + sure * torch.eye(3)[targets], targets

    class Dense(Answer):
        def forward(self, *args: Tensor, **kwargs: Tensor) -> Any:
            return args[0].roll(1, dims=1) * 0.3 + args[0]

    train, other = drawn(300, 2.0), drawn(300, 1.0)
    ctx = splits(train, other, Classification(), dense=Dense())
    found = gap(ctx)
    dense = GeneralizationGap().evaluate(Dense(), replace(ctx, of_dense=True, cache={}))["generalization_gap"]
    assert isinstance(dense, Measured)
    assert dense.difference is None
    assert found.difference is not None
    assert found.difference.value == pytest.approx(found.value - dense.value)
    # Two independent paired differences of shares: the usual standard error of their difference.
    variance = 0.0
    for scores, targets in (train, other):
        paired = (scores.argmax(1) == targets).double() - (Dense()(scores).argmax(1) == targets).double()
        variance += float(paired.var()) / len(paired)
    half = stats.norm.ppf(0.975) * math.sqrt(variance)
    assert found.difference.high - found.difference.low == pytest.approx(2 * half, rel=0.05)


def test_samples_are_those_of_both_splits() -> None:
    bench = Bench()
    found = bench.measure(GeneralizationGap(samples=40), cut_units=bench.uniform(0.6))["generalization_gap"]
    assert found.samples == 40
    accuracy = bench.measure(Accuracy(samples=40), cut_units=bench.uniform(0.6))["accuracy"].value
    train = bench.measure(Accuracy(samples=40), cut_units=bench.uniform(0.6), split="train")["accuracy"].value
    assert found.value == pytest.approx(train - accuracy)
    whole = bench.measure(GeneralizationGap().final(), split="test")["generalization_gap"]
    assert whole.samples == len(bench.data.test)


def test_what_is_known_is_told() -> None:
    told: list[Mapping[str, Measured]] = []
    ctx = splits(of_right(90, 100), of_right(60, 100), Classification(), report=told.append)
    found = gap(ctx, batch_size=25)
    assert [each["generalization_gap"].samples for each in told] == [25, 50, 75, 100]
    assert told[-1]["generalization_gap"].value == pytest.approx(found.value)


def test_a_loss_that_is_no_number_fails_the_trial() -> None:
    train = torch.randn(8, 2)
    ctx = splits((train, train), (train * math.nan, train), Regression())
    with pytest.raises(TrialError, match="generalization_gap: nothing counts in the samples of a split, or a loss is"):
        gap(ctx)
