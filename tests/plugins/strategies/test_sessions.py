"""Strategies in sessions of the engine: weights stay zero, granularities mix, cuts compose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from autoprune.plugin import Pruned, Strategy
from autoprune.structure import discover
from autoprune.testing import Bench
from autoprune_recoveries.fine_tune import FineTune
from autoprune_scorers.magnitude import L1
from autoprune_strategies.gradual import Gradual
from autoprune_strategies.iterative import Iterative
from autoprune_strategies.pre_prune import PrePrune
from autoprune_strategies.sparse_training import SparseTraining

SHORT: dict[str, Any] = {"epochs": 0.5, "batch_size": 16, "lr": 0.05}
STRATEGIES = (
    Iterative(rounds=3, recover=FineTune(**SHORT)),
    Iterative(rounds=3, schedule="geometric", recover=FineTune(**SHORT)),
    Gradual(cuts=4, epochs=1.0, batch_size=16, lr=0.05),
    PrePrune(**SHORT),
    SparseTraining(**SHORT),
    SparseTraining(penalty="group-lasso", **SHORT),
)


def bench_of(granularities: Sequence[str], form: Any = "auto") -> Bench:
    bench = Bench()
    bench.structure = discover(bench.network, bench.examples(), granularities, form=form)
    return bench


@pytest.fixture(scope="module")
def benches() -> dict[tuple[str, ...], Bench]:
    kinds = (("weights",), ("channels", "weights"), ("2:4",))
    return {kind: bench_of(kind) for kind in kinds}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
def test_weights_become_zero_and_stay_so(strategy: Strategy, benches: dict[tuple[str, ...], Bench]) -> None:
    bench = benches["weights",]
    asked = bench.uniform(0.75)
    pruned = bench.prune(strategy, asked, scorer=L1())
    for group in bench.structure.groups:
        weight: Tensor = pruned.network.get_parameter(group.masked)
        assert int((weight == 0).sum()) == asked[group.name], group.name
        assert torch.equal(weight.flatten() != 0, pruned.kept[group.name])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
@pytest.mark.parametrize("kind", [("channels", "weights"), ("2:4",)], ids="+".join)
def test_granularities_mix(strategy: Strategy, kind: tuple[str, ...], benches: dict[tuple[str, ...], Bench]) -> None:
    """The host counts what is gone and refuses anything else."""
    bench = benches[kind]
    asked = {g.name: round(0.5 * g.units / g.step) * g.step for g in bench.structure.groups}
    if kind == ("2:4",):
        asked = {g.name: g.step for g in bench.structure.groups}
    pruned = bench.prune(strategy, asked, scorer=L1())
    assert pruned.kept.keys() >= {name for name, count in asked.items() if count}


@pytest.mark.slow
def test_an_exported_graph_is_pruned_before_training_and_after_a_sparse_one() -> None:
    bench = bench_of(("channels",), form="graph")
    for strategy in (PrePrune(**SHORT), SparseTraining(**SHORT)):
        pruned = bench.prune(strategy, bench.uniform(0.5), scorer=L1())
        assert isinstance(pruned, Pruned)


@pytest.mark.slow
def test_sparse_training_penalises_the_scales_of_an_exported_graph() -> None:
    bench = bench_of(("channels",), form="graph")
    options: dict[str, Any] = {"epochs": 4.0, "batch_size": 16, "lr": 0.05}
    weak, strong = (
        bench.prune(SparseTraining(strength=strength, **options), {}).network.get_parameter("inner_bn.weight")
        for strength in (1e-9, 0.2)
    )
    assert strong.abs().sum() < 0.8 * weak.abs().sum()
