"""Kit for transforms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from autoprune.plugin import Range, Transform
from autoprune.study.trial import stored_bytes
from autoprune.testing.components import BenchConformance
from autoprune.testing.expectations import assert_equal, assert_predicts, forbidden

if TYPE_CHECKING:
    from autoprune.testing.bench import Bench

_RATIOS = (0.0, 0.5, 0.9)


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
        """The network predicts, and has as many parameters and bytes as `costs` tells."""
        cut_units = bench.uniform(ratio)
        for choice in self.choices(component, bench):
            network = bench.transform(component, bench.cut(cut_units), choice)
            layers = bench.structure.layer_costs(cut_units, ())
            changed = component.costs(layers, choice)
            dense = bench.structure.costs(cut_units)
            held = {"params": sum(p.numel() for p in network.parameters()), "bytes": stored_bytes(network)}
            for cost, count in held.items():
                told = getattr(dense, cost)
                told += sum(
                    getattr(new.costs, cost) - getattr(layers[name].costs, cost) for name, new in changed.items()
                )
                assert count == told, f"{choice}: the network holds {count} {cost}, and `costs` come to {told}"
            assert_predicts(network, bench)

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
            assert_equal(first.state_dict(), again.state_dict(), "weights")

    def test_calibrates_without_the_splits_that_measure(self, component: Transform, bench: Bench) -> None:
        """Only the train split is used: what is measured on the others would be worth nothing."""
        network = bench.cut(bench.uniform(0.5))
        choice = next(self.choices(component, bench))
        bench.data = replace(bench.data, validation=forbidden("validation"), test=forbidden("test"))
        bench.transform(component, network, choice)
