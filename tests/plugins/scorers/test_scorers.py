"""Each scorer against a plain loop over units."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import autoprune
from autoprune import TrialError
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Data, Group, ScoreContext, Scorer, Slice, Split
from autoprune_scorers.batch_norm import BatchNormScale
from autoprune_scorers.magnitude import L1, L2
from autoprune_scorers.random_order import RandomOrder
from autoprune_scorers.taylor import Taylor
from autoprune_tasks.regression import Regression

SCORERS = [
    L1(),
    L2(),
    RandomOrder(),
    BatchNormScale(otherwise=L1()),
    Taylor(batches=2),
    L1(weights="fan-out"),
    L2(weights="fan-out"),
]


def output_weights(net: nn.Module, name: str, unit: int) -> list[float]:
    """Every weight of the filters that make the unit, one by one."""
    layers = {"conv1": [net.conv1], "conv2": [net.conv2, net.skip], "hidden": [net.hidden]}[name]
    return [w for layer in layers for w in layer.weight[unit].flatten().tolist()]


def test_the_host_finds_all_of_them() -> None:
    assert {"l1", "l2", "random", "bn-scale", "taylor"} <= PluginHost().components(Scorer).keys()


@pytest.mark.parametrize("scorer", SCORERS, ids=str)
def test_scores_are_one_finite_float_per_unit_and_the_model_is_untouched(
    scorer: Scorer, group: Group, ctx: ScoreContext
) -> None:
    before = copy.deepcopy(ctx.network.state_dict())
    scores = scorer.score(group, ctx)
    assert scores.shape == (group.units,)
    assert scores.is_floating_point()
    assert scores.isfinite().all()
    assert not scores.requires_grad
    assert scores.unique().numel() > group.units // 2, "only dead units may tie"
    assert not ctx.network.training
    assert all(torch.equal(value, before[key]) for key, value in ctx.network.state_dict().items())


def test_l1_is_the_mean_absolute_weight(group: Group, ctx: ScoreContext) -> None:
    rows = [output_weights(ctx.network, group.name, u) for u in range(group.units)]
    expected = [sum(abs(w) for w in row) / len(row) for row in rows]
    assert L1().score(group, ctx).tolist() == pytest.approx(expected, rel=1e-5)


def test_l2_is_the_root_mean_square(group: Group, ctx: ScoreContext) -> None:
    rows = [output_weights(ctx.network, group.name, u) for u in range(group.units)]
    expected = [(sum(w * w for w in row) / len(row)) ** 0.5 for row in rows]
    assert L2().score(group, ctx).tolist() == pytest.approx(expected, rel=1e-5)


def test_fan_out_is_of_the_weights_that_read_a_unit(group: Group, net: nn.Module, ctx: ScoreContext) -> None:
    readers = {"conv1": [net.conv2], "conv2": [net.hidden], "hidden": [net.head]}[group.name]
    scores = L2(weights="fan-out").score(group, ctx)
    for unit in range(group.units):
        read = [_read(layer.weight, unit, group.units) for layer in readers]
        mean = sum(w.square().sum() for w in read) / sum(w.numel() for w in read)
        assert float(scores[unit]) == pytest.approx(float(mean.sqrt()), rel=1e-5)


def _read(weight: torch.Tensor, unit: int, units: int) -> torch.Tensor:
    """Inputs that a unit makes: one channel, or after flattening all places of it."""
    return weight.detach().reshape(len(weight), units, -1)[:, unit]


def test_units_of_scattered_entries_are_gathered_by_index(ctx: ScoreContext) -> None:
    """A unit may own several rows anywhere in the dimension: here rows (3, 0) and (1, 2)."""
    net = nn.Linear(2, 4, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, -1.0], [10.0, 0.0], [0.0, 20.0], [3.0, 5.0]]))
    place = Slice("weight", 0, torch.tensor([[3, 0], [1, 2]]), "output")
    group = Group("net", 2, "neuron", ("net",), (place,))
    own = dataclasses.replace(ctx, model=net, network=net, groups=(group,), cache={})
    assert L1().score(group, own).tolist() == [10 / 4, 30 / 4]


@pytest.mark.parametrize("scorer", [L1(), L2(), Taylor(batches=1)], ids=lambda s: s.name)
def test_a_group_without_the_weights_it_needs_is_named(
    scorer: Scorer, ctx: ScoreContext, groups: dict[str, Group]
) -> None:
    vectors = tuple(p for p in groups["hidden"].slices if p.role == "vector")
    group = dataclasses.replace(groups["hidden"], slices=vectors)
    with pytest.raises(TrialError, match="'hidden'"):
        scorer.score(group, dataclasses.replace(ctx, groups=(group,)))


@pytest.mark.parametrize(
    ("scorer", "role", "told"),
    [
        (L1(), "output", "'hidden' has no output weights"),
        (L2(weights="fan-out"), "input", "'hidden' has no weights that read it"),
        (Taylor(), "input", "no weight reads group 'hidden', so taylor"),
        (BatchNormScale(), "vector", "no batch norm follows group 'hidden'.*otherwise"),
        (BatchNormScale(otherwise=L1()), "output", "'hidden' has no output weights"),
    ],
    ids=str,
)
def test_what_it_cannot_rank_is_told_beforehand(
    scorer: Scorer, role: str, told: str, ctx: ScoreContext, groups: dict[str, Group]
) -> None:
    hidden = groups["hidden"]
    lacking = dataclasses.replace(hidden, slices=tuple(p for p in hidden.slices if p.role != role))
    assert re.search(told, scorer.refuses(lacking) or "")
    with pytest.raises(TrialError):
        scorer.score(lacking, dataclasses.replace(ctx, groups=(lacking,), cache={}))


@pytest.mark.parametrize("scorer", SCORERS, ids=str)
def test_what_it_can_rank_is_not_refused(scorer: Scorer, group: Group) -> None:
    assert scorer.refuses(group) is None
    if not isinstance(scorer, BatchNormScale):
        weights = Group("hidden.weight", 1152, "weight", ("hidden",), masked="hidden.weight")
        blocks = Group("blocks", 1, "block", ("hidden",), owned=(("hidden.weight", "hidden.bias"),))
        assert scorer.refuses(weights) is scorer.refuses(blocks) is None


def test_bn_scale_refuses_what_surely_has_no_batch_norm(groups: dict[str, Group]) -> None:
    assert BatchNormScale().refuses(groups["conv1"]) is None
    assert "otherwise" in (BatchNormScale().refuses(groups["hidden"]) or "")
    weights = Group("hidden.weight", 1152, "weight", ("hidden",), masked="hidden.weight")
    assert "otherwise" in (BatchNormScale().refuses(weights) or "")
    assert BatchNormScale(otherwise=L1()).refuses(weights) is None


def test_random_is_stable_and_differs_by_group_and_seed(ctx: ScoreContext, groups: dict[str, Group]) -> None:
    twin = dataclasses.replace(groups["hidden"], name="another")
    first = RandomOrder().score(groups["hidden"], ctx)
    torch.rand(7)  # other draws do not matter
    assert torch.equal(first, RandomOrder().score(groups["hidden"], ctx))
    assert not torch.equal(first, RandomOrder().score(twin, ctx))
    assert not torch.equal(first, RandomOrder().score(groups["hidden"], dataclasses.replace(ctx, seed=1)))


@pytest.mark.slow
def test_random_is_the_same_in_another_process(ctx: ScoreContext, groups: dict[str, Group]) -> None:
    """A new one, with another seed for hashes."""
    code = (
        "from types import SimpleNamespace as N; from autoprune_scorers.random_order import RandomOrder;"
        "print(RandomOrder().score(N(units=12, name='hidden'), N(seed=0)).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": "12345"}, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == RandomOrder().score(groups["hidden"], ctx).tolist(), done.stderr


def test_bn_scale_is_the_absolute_scale(ctx: ScoreContext, groups: dict[str, Group]) -> None:
    for name, norm in (("conv1", ctx.network.bn1), ("conv2", ctx.network.bn2)):
        assert (norm.weight < 0).any(), "or the test could not tell gamma from |gamma|"
        assert torch.allclose(BatchNormScale().score(groups[name], ctx), norm.weight.detach().abs())


def test_bn_scale_names_a_group_without_batch_norm_and_the_mend(ctx: ScoreContext, groups: dict[str, Group]) -> None:
    with pytest.raises(TrialError, match=r"'hidden'.*otherwise"):
        BatchNormScale().score(groups["hidden"], ctx)
    mended = BatchNormScale.model_validate({"use": "bn-scale", "otherwise": {"use": "l2"}}, context=PluginHost())
    assert torch.equal(mended.score(groups["hidden"], ctx), L2().score(groups["hidden"], ctx))


def readers(net: nn.Module, name: str, unit: int) -> torch.Tensor:
    """A mask over the weight that reads the unit: what zeroing the unit would zero."""
    weight = {"conv1": net.conv2, "conv2": net.hidden, "hidden": net.head}[name].weight
    mask = torch.zeros_like(weight)
    mask[:, slice(unit * 16, unit * 16 + 16) if name == "conv2" else unit] = 1
    return mask


def test_taylor_against_autograd_by_hand(group: Group, net: nn.Module, ctx: ScoreContext, data: Data) -> None:
    scorer = Taylor(batches=3, batch_size=40)
    layer = {"conv1": net.conv2, "conv2": net.hidden, "hidden": net.head}[group.name]
    expected = torch.zeros(group.units)
    for inputs, targets in data.train.batches(40, samples=120, generator=torch.Generator().manual_seed(ctx.seed)):
        net.zero_grad()
        cross_entropy(inputs.feed(ctx.model), targets).backward()
        change = layer.weight.grad * layer.weight.detach()
        for unit in range(group.units):
            expected[unit] += (change * readers(net, group.name, unit)).sum() ** 2 / 3
    assert torch.allclose(scorer.score(group, ctx), expected, rtol=1e-4)


def test_taylor_is_gradient_times_activation(
    ctx: ScoreContext, net: nn.Module, data: Data, groups: dict[str, Group]
) -> None:
    """The paper's other form: the gradient of a gate on the unit's activation."""
    ((inputs, targets),) = data.train.batches(64, samples=64, generator=torch.Generator().manual_seed(0))
    gate = torch.ones(12, requires_grad=True)
    handle = net.head.register_forward_pre_hook(lambda _, args: (args[0] * gate,))
    (gradient,) = torch.autograd.grad(cross_entropy(inputs.feed(ctx.model), targets), gate)
    handle.remove()
    scores = Taylor(batches=1, batch_size=64).score(groups["hidden"], ctx)
    assert torch.allclose(scores, gradient.square(), rtol=1e-4)


def test_taylor_asks_the_task_for_its_loss(ctx: ScoreContext, net: nn.Module, groups: dict[str, Group]) -> None:
    numbers = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
    inputs, _ = ctx.data.train.fetch(torch.arange(64))
    own = dataclasses.replace(
        ctx,
        task=Regression(),
        data=dataclasses.replace(ctx.data, train=Split.of_tensors(inputs, numbers), classes=None),
    )
    ((inputs, numbers),) = own.data.train.batches(64, generator=own.generator())
    (inputs.feed(ctx.model) - numbers).square().mean().backward()
    change = (net.head.weight.grad * net.head.weight.detach()).sum(0)
    scores = Taylor(batches=1, batch_size=64).score(groups["hidden"], own)
    assert torch.allclose(scores, change.square(), rtol=1e-4)


def test_taylor_takes_the_gradients_once_for_all_groups(
    ctx: ScoreContext, net: nn.Module, groups: dict[str, Group]
) -> None:
    passes = []
    net.register_forward_hook(lambda *_: passes.append(1))
    for group in groups.values():
        Taylor(batches=4).score(group, ctx)
    assert len(passes) == 4


def test_taylor_ranks_a_network_whose_parameters_are_frozen(
    net: nn.Module, ctx: ScoreContext, groups: dict[str, Group]
) -> None:
    free = Taylor(batches=1).score(groups["conv1"], ctx)
    net.requires_grad_(False)
    assert torch.equal(free, Taylor(batches=1).score(groups["conv1"], dataclasses.replace(ctx, cache={})))


@pytest.mark.slow
@pytest.mark.parametrize("scorer", SCORERS, ids=lambda s: s.name)
def test_groups_written_by_hand_are_those_that_discovery_finds(
    scorer: Scorer, group: Group, net: nn.Module, ctx: ScoreContext, data: Data
) -> None:
    inputs, _ = data.train.fetch(torch.arange(2))
    found = {each.name: each for each in autoprune.discover(net, inputs.args).groups}
    assert torch.allclose(scorer.score(found[group.name], ctx), scorer.score(group, ctx))


@pytest.mark.slow
def test_components_import_no_torch() -> None:
    code = "import sys; import autoprune_scorers as s; s.autoprune_components(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
