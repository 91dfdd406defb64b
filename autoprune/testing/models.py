"""Kits for what works on models: scorers, strategies, recoveries, evaluators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from autoprune.plugin import (
    Cost,
    Evaluator,
    ExactEvaluator,
    Measured,
    Pruned,
    Range,
    Recovery,
    Scorer,
    Split,
    SplitName,
    Strategy,
    Targets,
    Task,
    Transform,
)
from autoprune.study.trial import stored_bytes
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
        if component.allocates:
            pytest.skip("it decides itself what groups lose")
        cut_units = bench.uniform(ratio)
        network = bench.prune(component, cut_units).network
        assert sum(p.numel() for p in network.parameters()) == bench.structure.costs(cut_units).params
        _assert_predicts(network, bench)

    def test_cuts_a_single_group(self, component: Strategy, bench: Bench) -> None:
        """Groups may be absent from the candidate's cuts."""
        group = bench.structure.groups[0]
        pruned = bench.prune(component, {group.name: 1})
        assert component.allocates or len(pruned.kept[group.name]) == group.units - 1

    def test_result_hangs_on_the_seed_alone(self, component: Strategy, bench: Bench) -> None:
        """The same seed gives the same pruned model, whatever ran before."""
        first, again = (bench.prune(component, bench.uniform(0.5), seed=3) for _ in range(2))
        _assert_equal(dict(first.kept), dict(again.kept), "kept units")
        _assert_equal(first.network.state_dict(), again.network.state_dict(), "weights")

    def test_searches_without_the_splits_that_measure(self, component: Strategy, bench: Bench) -> None:
        """Only the train split is used: what is measured on the others would be worth nothing."""
        bench.data = replace(bench.data, validation=_forbidden("validation"), test=_forbidden("test"))
        assert isinstance(bench.prune(component, bench.uniform(0.5)), Pruned)


class RecoveryConformance(BenchConformance):
    """Tests of a recovery."""

    contract = Recovery

    @pytest.mark.parametrize("ratio", _RATIOS)
    def test_recovers_in_place(self, component: Recovery, bench: Bench, ratio: float) -> None:
        """The network keeps its tensors' names and shapes and ends in ``eval()``; the dense one is untouched."""
        pruned = bench.pruned(bench.uniform(ratio))
        network = pruned.network
        shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
        bench.recover(component, pruned)
        assert {name: tensor.shape for name, tensor in network.state_dict().items()} == shapes, "tensors changed shape"
        assert not any(module.training for module in network.modules()), "the network was left in train mode"
        _assert_predicts(network, bench)

    def test_leaves_nothing_behind(self, component: Recovery, bench: Bench) -> None:
        """No hooks and no gradients stay, and the parameters need gradients as before."""
        pruned = bench.pruned(bench.uniform(0.5))
        network = pruned.network
        frozen, *_ = network.parameters()
        frozen.requires_grad_(False)
        needed = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
        bench.recover(component, pruned)
        assert {n: p.requires_grad for n, p in network.named_parameters()} == needed, "requires_grad was changed"
        left = [name for name, parameter in network.named_parameters() if parameter.grad is not None]
        assert not left, f"gradients were left behind: {', '.join(left[:3])}"
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules()), "hooks were left behind"

    def test_result_hangs_on_the_seed_alone(self, component: Recovery, bench: Bench) -> None:
        """The same seed gives the same weights, whatever ran before."""
        first, again = (bench.pruned(bench.uniform(0.5)) for _ in range(2))
        for pruned in (first, again):
            bench.recover(component, pruned, seed=3)
        _assert_equal(first.network.state_dict(), again.network.state_dict(), "weights")

    def test_recovers_without_the_splits_that_measure(self, component: Recovery, bench: Bench) -> None:
        """Only the train split is used: what is measured on the others would be worth nothing."""
        pruned = bench.pruned(bench.uniform(0.5))
        bench.data = replace(bench.data, validation=_forbidden("validation"), test=_forbidden("test"))
        bench.recover(component, pruned)


class TransformConformance(BenchConformance):
    """Tests of a transform."""

    contract = Transform

    def choices(self, component: Transform, bench: Bench) -> Iterator[dict[str, float | str]]:
        """Each knob at its ends, the others as they are by default; override it to try others."""
        knobs = component.knobs(bench.network)
        usual = {knob.name: knob.default for knob in knobs}
        yield usual
        for knob in knobs:
            for value in (knob.low, knob.high) if isinstance(knob, Range) else knob.options:
                yield {**usual, knob.name: value}

    @pytest.mark.parametrize("ratio", _RATIOS)
    def test_costs_what_it_computes(self, component: Transform, bench: Bench, ratio: float) -> None:
        """The network predicts, and holds as many bytes as `costs` tells."""
        cut_units = bench.uniform(ratio)
        for choice in self.choices(component, bench):
            network = bench.transform(component, bench.cut(cut_units), choice)
            layers = bench.structure.layer_costs(cut_units, ())
            changed = component.costs(layers, choice)
            told = bench.structure.costs(cut_units).bytes
            told += sum(layer.costs.bytes - layers[name].costs.bytes for name, layer in changed.items())
            assert stored_bytes(network) == told, f"{choice}: the network holds {stored_bytes(network)} bytes"
            _assert_predicts(network, bench)

    @pytest.mark.parametrize("ratio", _RATIOS)
    def test_is_rebuilt_without_data(self, component: Transform, bench: Bench, ratio: float) -> None:
        """A saved model is opened so: the same modules replaced take the weights and predict the same."""
        for choice in self.choices(component, bench):
            network = bench.transform(component, bench.cut(bench.uniform(ratio)), choice)
            again = component.rebuild(bench.cut(bench.uniform(ratio)), choice).eval()
            again.load_state_dict(network.state_dict())
            inputs = bench.examples().to(bench.device)
            with torch.no_grad():
                assert torch.equal(bench.task.pick(inputs.feed(network)), bench.task.pick(inputs.feed(again)))

    def test_result_hangs_on_the_seed_alone(self, component: Transform, bench: Bench) -> None:
        """The same seed gives the same weights, whatever ran before."""
        for choice in self.choices(component, bench):
            first, again = (bench.transform(component, bench.cut(bench.uniform(0.5)), choice, seed=3) for _ in range(2))
            _assert_equal(first.state_dict(), again.state_dict(), "weights")

    def test_calibrates_without_the_splits_that_measure(self, component: Transform, bench: Bench) -> None:
        """Only the train split is used: what is measured on the others would be worth nothing."""
        network = bench.cut(bench.uniform(0.5))
        choice = next(self.choices(component, bench))
        bench.data = replace(bench.data, validation=_forbidden("validation"), test=_forbidden("test"))
        bench.transform(component, network, choice)


class TaskConformance(BenchConformance):
    """Tests of a task, on outputs and targets that fit it."""

    contract = Task

    @pytest.fixture
    def outputs(self) -> Tensor:
        """Outputs of a made-up model, N ≥ 2 samples first: override this."""
        raise NotImplementedError(f"{type(self).__name__} has to override the fixture `outputs`")

    @pytest.fixture
    def targets(self) -> Targets:
        """Targets of as many samples: override this."""
        raise NotImplementedError(f"{type(self).__name__} has to override the fixture `targets`")

    def test_takes_its_own(self, component: Task, bench: Bench, outputs: Tensor, targets: Targets) -> None:
        """It refuses nothing that fits it."""
        assert component.refuses(outputs, targets, replace(bench.data, classes=None)) is None

    def test_loss_has_a_gradient(self, component: Task, outputs: Tensor, targets: Targets) -> None:
        """Losses are (N,), finite, and training them moves the outputs."""
        asked = outputs.clone().requires_grad_()
        for loss in (component.loss(asked, targets), component.training_loss(asked, targets)):
            assert loss.shape == (len(outputs),), f"losses have the shape {tuple(loss.shape)}"
            (gradient,) = torch.autograd.grad(loss.sum(), asked, retain_graph=True)
            assert gradient.isfinite().all()
            assert gradient.any(), "the loss does not depend on the outputs"

    def test_divergence_is_a_distance_from_the_dense_model(self, component: Task, outputs: Tensor) -> None:
        """It is (N,), 0 of the same outputs, and larger the more they differ."""
        noise = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0)) * outputs.std()
        near, far = (component.divergence(outputs + scale * noise, outputs) for scale in (0.05, 0.5))
        assert near.shape == (len(outputs),)
        assert component.divergence(outputs, outputs).abs().max() < 1e-9
        assert 0 < near.mean() < far.mean()

    def test_agreement_is_a_share(self, component: Task, outputs: Tensor) -> None:
        """It is (N,), in [0, 1], and 1 of the same outputs."""
        assert (component.agreement(outputs, outputs) == 1).all()
        other = component.agreement(outputs.flip(0) + outputs.std(), outputs)
        assert other.shape == (len(outputs),)
        assert ((other >= 0) & (other <= 1)).all()

    def test_correct_is_a_share(self, component: Task, outputs: Tensor, targets: Targets) -> None:
        """It is (N,) in [0, 1], or nothing is right or wrong."""
        correct = component.correct(outputs, targets)
        if correct is not None:
            assert correct.shape == (len(outputs),)
            assert ((correct >= 0) & (correct <= 1)).all()


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
        outputs = bench.task.pick(bench.examples().to(bench.device).feed(network))
        dense = bench.task.pick(bench.examples().to(bench.device).feed(bench.network))
    assert outputs.shape == dense.shape, f"outputs have the shape {tuple(outputs.shape)}, not {tuple(dense.shape)}"
    assert outputs.isfinite().all(), "outputs are not all finite"


def _assert_uncertain(name: str, measured: Measured) -> None:
    low, value, high = measured.low, measured.value, measured.high
    assert (low is None) == (high is None), f"{name} has half an interval"
    if low is not None and high is not None:
        assert low <= value <= high, f"{name} is {value:g}, outside its interval [{low:g}, {high:g}]"
    assert measured.samples is None or measured.samples > 0, f"{name} rests on {measured.samples} samples"


def _without(measured: dict[str, Measured], names: set[str]) -> dict[str, Measured]:
    return {name: value for name, value in measured.items() if name not in names}


def _forbidden(name: SplitName) -> Split:
    def read(index: Tensor) -> Batch:  # noqa: ARG001 - refuses them all
        raise AssertionError(f"the {name} split was used")

    return Split(length=64, read=read)
