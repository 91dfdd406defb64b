"""One shot: which units stay, and that the dense network does."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from autoprune.plugin import Candidate, Data, PruneContext, Recovery, Split, Strategy
from autoprune_recoveries.bn_recalibration import BatchNormRecalibration
from autoprune_recoveries.fine_tune import FineTune
from autoprune_recoveries.nothing import NoRecovery
from autoprune_recoveries.repair import Repair
from autoprune_strategies.iterative import Iterative
from autoprune_strategies.one_shot import OneShot

Cutting = Callable[[int], Candidate]


def test_the_final_version_has_the_final_versions_of_its_recoveries() -> None:
    assert OneShot().final() == OneShot()
    plain = OneShot(recover=(BatchNormRecalibration(), FineTune(lr=0.1)))
    assert plain.final() == plain
    several = OneShot(recover=(Repair(rows=99_999, damping=0.5), FineTune(lr=0.1)))
    larger = Repair(samples=1024, rows=99_999, damping=0.5)
    assert several.final() == OneShot(recover=(larger, FineTune(lr=0.1)))
    assert several.final().final() == several.final()
    rounds = Iterative(rounds=2, recover=(NoRecovery(),), finish=(Repair(),))
    assert rounds.final() == Iterative(rounds=2, recover=(NoRecovery(),), finish=(Repair(samples=1024, rows=16_000),))


def test_the_host_finds_them() -> None:
    from autoprune.host.plugins import PluginHost

    expected = {"one-shot", "iterative", "gradual", "pre-prune", "sparse-training"}
    assert expected <= PluginHost().components(Strategy).keys()


def test_the_shortest_spec_recovers_nothing_and_a_long_one_what_it_says() -> None:
    from autoprune.host.plugins import PluginHost

    host = PluginHost()
    assert OneShot.model_validate({"use": "one-shot"}, context=host).recover == ()
    one = OneShot.model_validate({"use": "one-shot", "recover": {"use": "fine-tune", "lr": 0.1}}, context=host)
    assert one.recover == (FineTune(lr=0.1),)
    both = [{"use": "bn-recalibration"}, {"use": "fine-tune"}]
    two = OneShot.model_validate({"use": "one-shot", "recover": both}, context=host)
    assert two.recover == (BatchNormRecalibration(), FineTune())
    for each in (one, two):
        assert OneShot.model_validate(each.reference(), context=host) == each


@pytest.mark.parametrize(
    ("scores", "count", "kept"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 3, [3, 4, 5, 6, 7]),
        ([7, 6, 5, 4, 3, 2, 1, 0], 3, [0, 1, 2, 3, 4]),
        ([5, -1, 9, 0, 2, 8, 3, 1], 5, [0, 2, 5]),
        ([1, 1, 1, 1, 1, 1, 1, 1], 6, [0, 1]),
        ([2, 1, 2, 1, 2, 1, 2, 1], 3, [0, 1, 2, 4, 6]),
        ([0, 1, 2, 3, 4, 5, 6, 7], 0, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_the_highest_scores_stay_and_of_equal_ones_the_first(
    scores: list[float], count: int, kept: list[int], session: Any, net: nn.Module, cutting: Cutting
) -> None:
    before = copy.deepcopy(net.state_dict())
    session.rank = lambda _: torch.tensor(scores).float()
    pruned = OneShot().prune(cutting(count), session.context())
    assert pruned.kept["conv"].dtype == torch.int64
    assert pruned.kept["conv"].tolist() == kept
    assert torch.equal(pruned.network.conv.weight, net.conv.weight[kept])
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_the_dense_network_is_not_copied_before_the_cut(session: Any, cutting: Cutting) -> None:
    """Whoever asks for the network makes the host copy it."""
    copies: list[bool] = []
    ctx = session.context()
    ctx = replace(
        ctx,
        score=lambda pruned: copies.append(pruned.untouched) or {"conv": torch.arange(8.0)},
        cut=lambda pruned, kept: copies.append(pruned.untouched) or session.context().cut(pruned, kept),
    )
    OneShot().prune(cutting(2), ctx)
    assert copies == [True, True]


@pytest.mark.parametrize("recover", [BatchNormRecalibration(), FineTune(epochs=0.2)], ids=lambda r: r.name)
def test_recovery_changes_the_pruned_network_alone(
    recover: Recovery, ctx: PruneContext, net: nn.Module, cutting: Cutting
) -> None:
    before = copy.deepcopy(net.state_dict())
    plain = OneShot().prune(cutting(3), ctx).network.state_dict()
    pruned = OneShot(recover=recover).prune(cutting(3), ctx)
    assert any(not torch.equal(value, plain[key]) for key, value in pruned.network.state_dict().items())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not any(module.training for module in pruned.network.modules())


def test_recoveries_run_in_sequence(ctx: PruneContext, cutting: Cutting) -> None:
    first, second = BatchNormRecalibration(samples=64), FineTune(epochs=0.5, batch_size=32)
    both = OneShot(recover=[first, second]).prune(cutting(3), ctx)
    by_hand = OneShot().prune(cutting(3), ctx)
    for recovery in (first, second):
        recovery.recover(by_hand, ctx)
    other = OneShot(recover=[second, first]).prune(cutting(3), ctx)
    ours, theirs, others = (p.network.state_dict() for p in (both, by_hand, other))
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    assert not all(torch.equal(value, others[key]) for key, value in ours.items())


def test_data_that_a_recovery_refuses_is_refused(data: Data) -> None:
    one = replace(data, train=Split.of_tensors(*data.train.fetch(torch.arange(1))))
    reason = OneShot(recover=[NoRecovery(), FineTune()]).refuses(one)
    assert reason is not None
    assert reason.startswith("fine-tune: ")
    assert OneShot(recover=[NoRecovery(), FineTune()]).refuses(data) is None


@pytest.mark.slow
def test_components_import_no_torch() -> None:
    code = "import sys; import autoprune_strategies as s; s.autoprune_components(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
