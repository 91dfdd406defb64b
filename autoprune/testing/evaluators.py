"""Kit for evaluators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from autoprune.plugin import Cost, Evaluator, ExactEvaluator, Measured, SplitName
from autoprune.testing.components import BenchConformance

if TYPE_CHECKING:
    from autoprune.testing.bench import Bench

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


def _assert_uncertain(name: str, measured: Measured) -> None:
    low, value, high = measured.low, measured.value, measured.high
    assert (low is None) == (high is None), f"{name} has half an interval"
    if low is not None and high is not None:
        assert low <= value <= high, f"{name} is {value:g}, outside its interval [{low:g}, {high:g}]"
    assert measured.samples is None or measured.samples > 0, f"{name} rests on {measured.samples} samples"


def _without(measured: dict[str, Measured], names: set[str]) -> dict[str, Measured]:
    return {name: value for name, value in measured.items() if name not in names}
