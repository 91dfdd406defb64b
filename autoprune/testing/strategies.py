"""Kits for strategies and recoveries."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from autoprune.plugin import Pruned, Recovery, Strategy
from autoprune.testing.components import BenchConformance
from autoprune.testing.expectations import assert_equal, assert_predicts, forbidden

if TYPE_CHECKING:
    from autoprune.testing.bench import Bench

_RATIOS = (0.0, 0.5, 0.9)


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
        assert_predicts(network, bench)

    def test_cuts_a_single_group(self, component: Strategy, bench: Bench) -> None:
        """Groups may be absent from the candidate's cuts."""
        group = bench.structure.groups[0]
        pruned = bench.prune(component, {group.name: 1})
        assert component.allocates or len(pruned.kept[group.name]) == group.units - 1

    def test_result_hangs_on_the_seed_alone(self, component: Strategy, bench: Bench) -> None:
        """The same seed gives the same pruned model, whatever ran before."""
        first, again = (bench.prune(component, bench.uniform(0.5), seed=3) for _ in range(2))
        assert_equal(dict(first.kept), dict(again.kept), "kept units")
        assert_equal(first.network.state_dict(), again.network.state_dict(), "weights")

    def test_what_a_probe_asks_changes_the_cut_layers_alone(self, component: Strategy, bench: Bench) -> None:
        """Whatever recovering a cut of one group comes to, modules that the cut left whole stay as they are."""
        group = bench.structure.groups[0]
        pruned, recovered = bench.recover_alone(component, group.name, group.units // 2)
        assert isinstance(recovered, bool)
        assert_predicts(pruned.network, bench)

    def test_searches_without_the_splits_that_measure(self, component: Strategy, bench: Bench) -> None:
        """Only the train split is used: what is measured on the others would be worth nothing."""
        bench.data = replace(bench.data, validation=forbidden("validation"), test=forbidden("test"))
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
        assert_predicts(network, bench)

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
        assert_equal(first.network.state_dict(), again.network.state_dict(), "weights")

    def test_what_a_probe_asks_changes_the_cut_layers_alone(self, component: Recovery, bench: Bench) -> None:
        """Whatever recovering a cut of one group comes to, modules that the cut left whole stay as they are."""
        group = bench.structure.groups[0]
        pruned, recovered = bench.recover_alone(component, group.name, group.units // 2)
        assert isinstance(recovered, bool)
        assert_predicts(pruned.network, bench)

    def test_recovers_without_the_splits_that_measure(self, component: Recovery, bench: Bench) -> None:
        """Only the train split is used: what is measured on the others would be worth nothing."""
        pruned = bench.pruned(bench.uniform(0.5))
        bench.data = replace(bench.data, validation=forbidden("validation"), test=forbidden("test"))
        bench.recover(component, pruned)
