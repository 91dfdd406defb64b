"""Kits for what works on models: scorers, strategies, recoveries, evaluators."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from autoprune.plugin import (
    Cost,
    Evaluator,
    ExactEvaluator,
    Measured,
    PrunedModel,
    Recovery,
    Scorer,
    Split,
    SplitName,
    Strategy,
)
from autoprune.testing.components import BenchConformance

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.plugin import Batch
    from autoprune.testing.bench import Bench

_RATIOS = (0.0, 0.5, 0.9)


class ScorerConformance(BenchConformance):
    """Tests of a scorer."""

    contract = Scorer

    def test_scores_every_unit_of_every_group(self, component: Scorer, bench: Bench) -> None:
        """Scores are finite and of shape (U,), and the network they come from stays as it was."""
        assert bench.score(component).keys() == {group.name for group in bench.structure.groups}

    def test_scores_hang_on_the_seed_alone(self, component: Scorer, bench: Bench) -> None:
        """The same seed gives the same scores, whatever ran before."""
        _assert_equal(bench.score(component, seed=3), bench.score(component, seed=3), "scores")

    def test_scores_do_not_hang_on_the_order_of_groups(self, component: Scorer, bench: Bench) -> None:
        """What is kept between groups (`ctx.memo`) does not leak from one into the other."""
        _assert_equal(bench.score(component), bench.score(component, backwards=True), "scores")


class StrategyConformance(BenchConformance):
    """Tests of a strategy."""

    contract = Strategy

    @pytest.mark.parametrize("ratio", _RATIOS)
    def test_cuts_exactly_what_is_asked(self, component: Strategy, bench: Bench, ratio: float) -> None:
        """Each group loses so many units, every tensor has the shape that this leaves, and the dense one is whole."""
        cut_units = bench.uniform(ratio)
        network = bench.prune(component, cut_units).network
        assert sum(p.numel() for p in network.parameters()) == bench.structure.costs(cut_units).params
        _assert_predicts(network, bench)

    def test_cuts_a_single_group(self, component: Strategy, bench: Bench) -> None:
        """Groups may be absent from the candidate's cuts."""
        group = bench.structure.groups[0]
        pruned = bench.prune(component, {group.name: 1})
        assert len(pruned.kept[group.name]) == group.units - 1

    def test_result_hangs_on_the_seed_alone(self, component: Strategy, bench: Bench) -> None:
        """The same seed gives the same pruned model, whatever ran before."""
        first, again = (bench.prune(component, bench.uniform(0.5), seed=3) for _ in range(2))
        _assert_equal(dict(first.kept), dict(again.kept), "kept units")
        _assert_equal(first.network.state_dict(), again.network.state_dict(), "weights")

    def test_searches_without_the_splits_that_measure(self, component: Strategy, bench: Bench) -> None:
        """Only the train split is used: what is measured on the others would be worth nothing."""
        bench.data = replace(bench.data, validation=_forbidden("validation"), test=_forbidden("test"))
        assert isinstance(bench.prune(component, bench.uniform(0.5)), PrunedModel)


class RecoveryConformance(BenchConformance):
    """Tests of a recovery."""

    contract = Recovery

    @pytest.mark.parametrize("ratio", _RATIOS)
    def test_recovers_in_place(self, component: Recovery, bench: Bench, ratio: float) -> None:
        """The network keeps its tensors' names and shapes and ends in ``eval()``; the dense one is untouched."""
        network = bench.cut(bench.uniform(ratio))
        shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
        bench.recover(component, network)
        assert {name: tensor.shape for name, tensor in network.state_dict().items()} == shapes, "tensors changed shape"
        assert not any(module.training for module in network.modules()), "the network was left in train mode"
        _assert_predicts(network, bench)

    def test_leaves_nothing_behind(self, component: Recovery, bench: Bench) -> None:
        """No hooks and no gradients stay, and the parameters need gradients as before."""
        network = bench.cut(bench.uniform(0.5))
        frozen, *_ = network.parameters()
        frozen.requires_grad_(False)
        needed = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
        bench.recover(component, network)
        assert {n: p.requires_grad for n, p in network.named_parameters()} == needed, "requires_grad was changed"
        left = [name for name, parameter in network.named_parameters() if parameter.grad is not None]
        assert not left, f"gradients were left behind: {', '.join(left[:3])}"
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules()), "hooks were left behind"

    def test_result_hangs_on_the_seed_alone(self, component: Recovery, bench: Bench) -> None:
        """The same seed gives the same weights, whatever ran before."""
        networks = [bench.cut(bench.uniform(0.5)) for _ in range(2)]
        for network in networks:
            bench.recover(component, network, seed=3)
        _assert_equal(networks[0].state_dict(), networks[1].state_dict(), "weights")

    def test_recovers_without_the_splits_that_measure(self, component: Recovery, bench: Bench) -> None:
        """Only the train split is used: what is measured on the others would be worth nothing."""
        network = bench.cut(bench.uniform(0.5))
        bench.data = replace(bench.data, validation=_forbidden("validation"), test=_forbidden("test"))
        bench.recover(component, network)


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
        assert measured.keys() == {metric.name for metric in component.produces()}
        for name, value in measured.items():
            _assert_uncertain(name, value)

    def test_metrics_are_named_and_described(self, component: Evaluator) -> None:
        """Names are what objectives can say; each tells its unit and what it is."""
        for metric in component.metrics:
            assert metric.name.isidentifier(), f"{metric.name!r} is no identifier"
            assert metric.unit, f"{metric.name} has no unit"
            assert metric.description, f"{metric.name} has no description"

    def test_a_label_keeps_two_of_them_apart(self, component: Evaluator, bench: Bench) -> None:
        """With a label, every metric has another name."""
        labelled = component.model_copy(update={"label": "other"})
        measured = bench.measure(labelled)
        assert measured.keys() == {f"{metric.name}_other" for metric in component.metrics}

    def test_values_hang_on_the_seed_alone(self, component: Evaluator, bench: Bench) -> None:
        """What is not timed comes out the same again, whatever ran before."""
        timed = {component.metric_name(m.name) for m in component.metrics if m.cost is Cost.TIMING}
        first, again = (bench.measure(component, cut_units=bench.uniform(0.5), seed=3) for _ in range(2))
        assert _without(first, timed) == _without(again, timed)

    def test_nothing_of_one_model_stays_for_the_next(self, component: Evaluator, bench: Bench) -> None:
        """What is kept between models (`ctx.memo`) says nothing about any one of them."""
        timed = {component.metric_name(m.name) for m in component.metrics if m.cost is Cost.TIMING}
        alone = bench.measure(component, cut_units=bench.uniform(0.5))
        bench.measure(component)
        bench.measure(component, split="test")
        assert _without(bench.measure(component, cut_units=bench.uniform(0.5)), timed) == _without(alone, timed)

    def test_the_final_version_measures_the_same(self, component: Evaluator, bench: Bench) -> None:
        """The stricter version for the front makes the same metrics."""
        assert [m.name for m in component.final().produces()] == [m.name for m in component.produces()]
        assert bench.measure(component.final(), split="test").keys() == bench.measure(component, split="test").keys()

    def test_exact_values_come_from_arithmetic_alone(self, component: Evaluator, bench: Bench) -> None:
        """An `ExactEvaluator` computes what it would measure, and declares the cheapest cost; no other does."""
        exact = isinstance(component, ExactEvaluator)
        assert all((metric.cost is Cost.EXACT) == exact for metric in component.metrics)
        if isinstance(component, ExactEvaluator):
            cut_units = bench.uniform(0.5)
            computed = component.compute(bench.structure.costs(cut_units), bench.structure.costs())
            measured = bench.measure(component, cut_units=cut_units)
            assert {component.metric_name(n): v for n, v in computed.items()} == {
                n: v.value for n, v in measured.items()
            }


def _assert_equal(first: dict[str, Tensor], again: dict[str, Tensor], what: str) -> None:
    assert first.keys() == again.keys(), f"{what} of other names"
    differ = [name for name in first if not torch.equal(first[name], again[name])]
    assert not differ, f"{what} of {', '.join(differ[:3])} differ from one call to the next"


def _assert_predicts(network: nn.Module, bench: Bench) -> None:
    with torch.no_grad():
        logits = network(*(tensor.to(bench.device) for tensor in bench.examples()))
    assert logits.shape[1] == bench.data.classes, f"outputs have the shape {tuple(logits.shape)}"
    assert logits.isfinite().all(), "outputs are not all finite"


def _assert_uncertain(name: str, measured: Measured) -> None:
    low, value, high = measured.low, measured.value, measured.high
    assert (low is None) == (high is None), f"{name} has half an interval"
    if low is not None and high is not None:
        assert low <= value <= high, f"{name} is {value:g}, outside its interval [{low:g}, {high:g}]"
    assert measured.samples is None or measured.samples > 0, f"{name} rests on {measured.samples} samples"


def _without(measured: dict[str, Measured], names: set[str]) -> dict[str, Measured]:
    return {name: value for name, value in measured.items() if name not in names}


def _forbidden(name: SplitName) -> Split:
    def fetch(index: Tensor) -> Batch:  # noqa: ARG001 - refuses them all
        raise AssertionError(f"the {name} split was used")

    return Split(length=64, fetch=fetch)
