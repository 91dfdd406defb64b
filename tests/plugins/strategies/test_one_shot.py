"""One shot: which units stay, and that the dense network does."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from autoprune.host.plugins import PluginHost
from autoprune.plugin import Candidate, PruneContext, Recovery, Strategy
from autoprune_recoveries.bn_recalibration import BatchNormRecalibration
from autoprune_recoveries.fine_tune import FineTune
from autoprune_recoveries.nothing import NoRecovery
from autoprune_strategies.one_shot import OneShot


def cutting(count: int) -> Candidate:
    return Candidate(ratios={"conv": count / 8}, cut_units={"conv": count})


def test_the_host_finds_them() -> None:
    host = PluginHost()
    assert "one-shot" in host.components(Strategy)
    assert {"none", "bn-recalibration", "fine-tune"} <= host.components(Recovery).keys()


def test_the_shortest_spec_recovers_nothing_and_a_long_one_what_it_says() -> None:
    host = PluginHost()
    short = OneShot.model_validate({"use": "one-shot"}, context=host)
    assert isinstance(short.recover, NoRecovery)
    full = OneShot.model_validate({"use": "one-shot", "recover": {"use": "fine-tune", "lr": 0.1}}, context=host)
    assert full.recover == FineTune(lr=0.1)
    assert OneShot.model_validate(full.reference(), context=host) == full


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
    scores: list[float], count: int, kept: list[int], make_context: Callable[..., PruneContext], net: nn.Module
) -> None:
    before = copy.deepcopy(net.state_dict())
    pruned = OneShot().prune(cutting(count), make_context([float(s) for s in scores]))
    assert pruned.kept["conv"].dtype == torch.int64
    assert pruned.kept["conv"].tolist() == kept
    assert torch.equal(pruned.network.conv.weight, net.conv.weight[kept])
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("recover", [BatchNormRecalibration(), FineTune(epochs=0.2)], ids=lambda r: r.name)
def test_recovery_changes_the_pruned_network_alone(recover: Recovery, ctx: PruneContext, net: nn.Module) -> None:
    before = copy.deepcopy(net.state_dict())
    plain = OneShot().prune(cutting(3), ctx).network.state_dict()
    pruned = OneShot(recover=recover).prune(cutting(3), ctx)
    assert any(not torch.equal(value, plain[key]) for key, value in pruned.network.state_dict().items())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not any(module.training for module in pruned.network.modules())


def test_components_import_no_torch() -> None:
    code = "import sys; import autoprune_strategies as s; s.autoprune_components(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
