"""Kit for evaluators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from autoprune.plugin import Cost, Data, Evaluator, ExactEvaluator, Measured, Split, SplitName
from autoprune.testing.bench import Bench
from autoprune.testing.components import BenchConformance

_RATIOS = (0.0, 0.5, 0.9)


class EvaluatorConformance(BenchConformance):
    """Tests of an evaluator."""

    contract = Evaluator

    @pytest.mark.parametrize("split", ["validation", "test"])
    @pytest.mark.parametrize("ratio", _RATIOS)
    def test_measures_what_it_declares(
        self, component: Evaluator, bench: Bench, ratio: float, split: SplitName
    ) -> None:
        """Every metric is there and finite, on either split, and model and dense model stay as they were."""
        measured = bench.measure(component, cut_units=bench.uniform(ratio), split=split)
        assert measured.keys() == {metric.name for metric in component.produces(bench.data)}
        for name, value in measured.items():
            _assert_uncertain(name, value)

    def test_metrics_are_named_and_described(self, component: Evaluator, bench: Bench) -> None:
        """Names are what objectives can say; each tells its unit and what it is."""
        for metric in component.declares(bench.data):
            assert metric.name.isidentifier(), f"{metric.name!r} is no identifier"
            assert metric.unit, f"{metric.name} has no unit"
            assert metric.description, f"{metric.name} has no description"

    def test_a_label_keeps_two_of_them_apart(self, component: Evaluator, bench: Bench) -> None:
        """With a label, every metric has another name."""
        labelled = component.model_copy(update={"label": "other"})
        measured = bench.measure(labelled)
        assert measured.keys() == {f"{metric.name}_other" for metric in component.declares(bench.data)}

    def test_values_hang_on_the_seed_alone(self, component: Evaluator, bench: Bench) -> None:
        """What is not timed comes out the same again, whatever ran before."""
        timed = {component.metric_name(m.name) for m in component.declares(bench.data) if m.cost is Cost.TIMING}
        first, again = (bench.measure(component, cut_units=bench.uniform(0.5), seed=3) for _ in range(2))
        assert _without(first, timed) == _without(again, timed)

    def test_nothing_of_one_model_stays_for_the_next(self, component: Evaluator, bench: Bench) -> None:
        """What is kept between models (`ctx.memo`) says nothing about any one of them."""
        timed = {component.metric_name(m.name) for m in component.declares(bench.data) if m.cost is Cost.TIMING}
        alone = bench.measure(component, cut_units=bench.uniform(0.5))
        bench.measure(component)
        bench.measure(component, split="test")
        assert _without(bench.measure(component, cut_units=bench.uniform(0.5)), timed) == _without(alone, timed)

    def test_the_final_version_measures_the_same(self, component: Evaluator, bench: Bench) -> None:
        """The stricter version for the front makes the same metrics."""
        assert [m.name for m in component.final().produces(bench.data)] == [
            m.name for m in component.produces(bench.data)
        ]
        assert bench.measure(component.final(), split="test").keys() == bench.measure(component, split="test").keys()

    def test_exact_values_come_from_arithmetic_alone(self, component: Evaluator, bench: Bench) -> None:
        """An `ExactEvaluator` computes what it would measure, and declares the cheapest cost; no other does."""
        exact = isinstance(component, ExactEvaluator)
        assert all((metric.cost is Cost.EXACT) == exact for metric in component.declares(bench.data))
        if isinstance(component, ExactEvaluator):
            cut_units = bench.uniform(0.5)
            computed = component.compute(bench.structure.costs(cut_units), bench.structure.dense_costs)
            measured = bench.measure(component, cut_units=cut_units)
            assert {component.metric_name(n): v for n, v in computed.items()} == {
                n: v.value for n, v in measured.items()
            }

    def test_it_reads_no_data_unless_it_needs_it(self, component: Evaluator, bench: Bench) -> None:
        """An evaluator without ``data`` among its needs measures where no sample can be read."""
        if "data" not in component.needs:
            _assert_the_same(component, bench, bench.on(_changed(bench.data, _unread)))

    def test_targets_change_nothing_unless_it_needs_labels(self, component: Evaluator, bench: Bench) -> None:
        """Without ``labels`` among its needs, its metrics are the same where each sample has the next one's targets."""
        if "labels" not in component.needs:
            _assert_the_same(component, bench, bench.on(_changed(bench.data, _with_the_next_ones_targets)))

    def test_it_asks_for_no_gradients_unless_it_needs_them(self, component: Evaluator, bench: Bench) -> None:
        """Without ``gradients`` among its needs, its metrics are the same of models that have none."""
        if "gradients" not in component.needs:
            _assert_the_same(component, bench, _Opaque(bench))


class _Opaque(Bench):
    """A bench whose models have no gradients."""

    def __init__(self, bench: Bench) -> None:
        self.__dict__.update(vars(bench.on(bench.data)))

    def predictor(self, network: nn.Module) -> nn.Module:
        return _WithoutGradients(super().predictor(network))


class _WithoutGradients(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    @property
    def network(self) -> Any:
        return self.model.network

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)


def _assert_the_same(component: Evaluator, bench: Bench, other: Bench) -> None:
    timed = {component.metric_name(m.name) for m in component.declares(bench.data) if m.cost is Cost.TIMING}
    one, another = (each.measure(component, cut_units=bench.uniform(0.5)) for each in (bench, other))
    assert _without(one, timed) == _without(another, timed)


def _changed(data: Data, change: Callable[[Split], Split]) -> Data:
    return replace(data, train=change(data.train), validation=change(data.validation), test=change(data.test))


def _with_the_next_ones_targets(split: Split) -> Split:
    return Split(len(split), lambda index: (split.fetch(index)[0], split.fetch((index + 1) % len(split))[1]))


def _unread(split: Split) -> Split:
    def read(index: torch.Tensor) -> Any:
        raise AssertionError(f"{len(index)} samples were read")

    return Split(len(split), read, read)


def _assert_uncertain(name: str, measured: Measured) -> None:
    low, value, high = measured.low, measured.value, measured.high
    assert (low is None) == (high is None), f"{name} has half an interval"
    if low is not None and high is not None:
        assert low <= value <= high, f"{name} is {value:g}, outside its interval [{low:g}, {high:g}]"
    assert measured.samples is None or measured.samples > 0, f"{name} rests on {measured.samples} samples"


def _without(measured: dict[str, Measured], names: set[str]) -> dict[str, Measured]:
    return {name: value for name, value in measured.items() if name not in names}
