"""Iterative and gradual: how many units are gone when, on which weights units are ranked, and what is trained."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from autoprune.plugin import Candidate, Group, PruneContext, Pruned, Recovery
from autoprune_recoveries.fine_tune import FineTune
from autoprune_strategies._stages import cubic, geometric, linear, stages
from autoprune_strategies.gradual import Gradual
from autoprune_strategies.iterative import Iterative
from autoprune_strategies.one_shot import OneShot

Cutting = Callable[[int], Candidate]


class Reverse(Recovery):
    """Makes the weakest filters the strongest, and notes the seeds that it gets."""

    name = "reverse"

    def recover(self, pruned: Pruned, ctx: PruneContext) -> None:
        with torch.no_grad():
            pruned.network.conv.weight.reciprocal_()
        ctx.cache.setdefault("seeds", []).append(ctx.seed)


def same(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[key]) for key, value in ours.items())


def plain(name: str, units: int, step: int = 1, masked: str = "") -> Group:
    return Group(name, units, "channel", (name,), step=step, masked=masked)


def test_the_units_of_each_stage() -> None:
    groups, cut = (plain("a", 100), plain("b", 10), plain("c", 10)), {"a": 75, "b": 3}
    assert stages(groups, cut, linear, 3) == [{"a": 25, "b": 1}, {"a": 50, "b": 2}, {"a": 75, "b": 3}]
    # Half of what is left goes in each round.
    assert [gone["a"] for gone in stages(groups, cut, geometric, 2)] == [50, 75]
    # 1 - (1 - t)³ of 75 by quarters: 43.4, 65.6, 73.8.
    assert [gone["a"] for gone in stages(groups, cut, cubic, 4)] == [43, 66, 74, 75]


@pytest.mark.parametrize("schedule", [linear, geometric, cubic])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_stages_only_take_away_and_end_at_what_is_asked(schedule: Any, count: int) -> None:
    for units in (1, 2, 5, 64):
        for step in (1, 2):
            for cut in range(0, units + 1, step):
                planned = stages((plain("a", units, step),), {"a": cut}, schedule, count)
                gone = [each.get("a", 0) for each in planned]
                assert len(gone) == count
                assert gone == sorted(gone)
                assert gone[-1] == cut
                assert not any(each % step for each in gone)


def test_weights_wait_for_the_channels_that_go_with_them() -> None:
    groups, cut = (plain("a", 10), plain("w", 100, masked="w")), {"a": 4, "w": 50}
    assert stages(groups, cut, linear, 2) == [{"a": 2}, {"a": 4, "w": 50}]
    assert stages(groups, {"w": 50}, linear, 2) == [{"w": 25}, {"w": 50}]


def test_one_round_is_one_shot(session: Any, cutting: Cutting) -> None:
    recover = FineTune(epochs=0.5, batch_size=32)
    once = Iterative(rounds=1, recover=recover).prune(cutting(3), session.context(seed=5))
    assert same(once.network, OneShot(recover=recover).prune(cutting(3), session.context(seed=5)).network)


def test_every_round_ranks_what_the_round_before_left(session: Any, net: nn.Module, cutting: Cutting) -> None:
    with torch.no_grad():
        net.conv.weight.copy_(torch.arange(1.0, 9.0).view(8, 1, 1, 1).expand(8, 1, 3, 3))
    ctx = session.context(seed=40)
    pruned = Iterative(rounds=2, recover=Reverse(), finish=Reverse()).prune(cutting(4), ctx)
    # 1 and 2 go; of 1/3 … 1/8 the smallest are 1/7 and 1/8; reversed twice more.
    assert pruned.kept["conv"].tolist() == [2, 3, 4, 5]
    assert torch.allclose(pruned.network.conv.weight[:, 0, 0, 0], torch.tensor([1 / 3, 1 / 4, 1 / 5, 1 / 6]))
    assert session.left == [6, 4]
    assert ctx.cache["seeds"] == [40, 41, 42]


def test_rounds_without_a_unit_are_left_out(session: Any, cutting: Cutting) -> None:
    ctx = session.context()
    pruned = Iterative(rounds=8, recover=Reverse()).prune(cutting(2), ctx)
    assert session.left == [7, 6]
    assert len(ctx.cache["seeds"]) == 2
    assert len(pruned.kept["conv"]) == 6


def test_a_gradual_cut_at_once_is_one_shot_with_a_fine_tuning(session: Any, cutting: Cutting) -> None:
    options = {"epochs": 2.0, "batch_size": 32, "lr": 0.05}
    once = Gradual(cuts=1, until=1.0, **options).prune(cutting(3), session.context(seed=3))
    other = OneShot(recover=FineTune(**options)).prune(cutting(3), session.context(seed=3))
    assert same(once.network, other.network)
    assert once.kept["conv"].tolist() == other.kept["conv"].tolist()


def test_a_gradual_cut_trains_between_its_cuts(session: Any, net: nn.Module, cutting: Cutting) -> None:
    before = copy.deepcopy(net)
    pruned = Gradual(cuts=4, until=0.5, epochs=4, batch_size=16).prune(cutting(6), session.context())
    # 1 - (1 - t)³ of 6 by quarters: 3.5, 5.25, 5.9; the last one finds nothing more to cut.
    assert session.left == [5, 3, 2]
    assert session.trained == [5, 3, 2, 2, 2]
    assert len(pruned.kept["conv"]) == 2
    assert same(before, net)
    assert not pruned.network.training


def test_a_gradual_cut_ranks_trained_weights(session: Any, net: nn.Module, cutting: Cutting) -> None:
    """Weights that begin near zero have grown by the second cut."""
    with torch.no_grad():
        net.conv.weight.mul_(1e-3)
    ranked: list[torch.Tensor] = []

    def rank(network: nn.Module) -> torch.Tensor:
        ranked.append(network.conv.weight.detach().clone())
        return torch.arange(float(len(network.conv.weight)))

    session.rank = rank
    Gradual(cuts=2, epochs=2, batch_size=16, lr=0.1).prune(cutting(5), session.context())
    assert torch.equal(ranked[0], net.conv.weight)
    assert ranked[1].abs().mean() > 2 * ranked[0].abs().mean()


def test_a_gradual_cut_goes_on_with_batches_and_rates(session: Any, data: Any, cutting: Cutting) -> None:
    """All samples are seen once in an epoch, however often it is interrupted."""
    seen: list[torch.Tensor] = []
    read = data.train.read

    def watched(index: torch.Tensor) -> Any:
        seen.append(index)
        return read(index)

    session.data = replace(data, train=replace(data.train, read=watched))
    Gradual(cuts=3, epochs=1, batch_size=16).prune(cutting(4), session.context())
    assert torch.cat(seen).sort().values.tolist() == list(range(96))
