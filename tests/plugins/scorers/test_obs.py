"""Scorer obs against least squares solved anew for every unit."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import autoprune
from autoprune import TrialError
from autoprune.host.binding import bind, load_spec
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Data, Group, ScoreContext, Slice, SourceContext, Split
from autoprune.testing import Bench
from autoprune_scorers.magnitude import L1
from autoprune_scorers.obs import OBS
from autoprune_tasks.classification import Classification

ROOT = Path(__file__).parents[3]
Array = NDArray[np.float64]
WHOLE = OBS(samples=64, rows=10**6, damping=1e-3)
"""Looks at every position."""


def refitted(rows: Array, weight: Array, gone: list[int], damping: float, *, centre: bool = True) -> float:
    """Error of a layer (O, F) on rows (R, F) without some features, its other weights fitted anew; and of the pull.

    It is least squares by numpy, of rows that stand for the pull, too: what the weights are pulled by counts as error.
    """
    x = rows - rows.mean(0) if centre else rows
    pull = math.sqrt(damping * (x**2).mean() * len(x)) * np.eye(x.shape[1])
    x = np.concatenate([x, pull])
    stays = [feature for feature in range(x.shape[1]) if feature not in gone]
    target = x @ weight.T
    fit = np.linalg.lstsq(x[:, stays], target, rcond=None)[0]
    return float(((x[:, stays] @ fit - target) ** 2).sum() / len(rows))


def spread(rows: Array, weight: Array, *, centre: bool = True) -> float:
    outputs = rows @ weight.T
    return float((outputs.var(0) if centre else (outputs**2).mean(0)).sum())


def by_hand(damage: Callable[[list[int]], float], units: int) -> Array:
    """Least damage first, every choice tried: the damage when each unit goes, (U,)."""
    gone: list[int] = []
    scores = np.zeros(units)
    while len(gone) < units:
        trial = {unit: damage([*gone, unit]) for unit in range(units) if unit not in gone}
        best = min(trial, key=trial.__getitem__)
        gone.append(best)
        scores[best] = trial[best]
    return scores


def context(net: nn.Module, inputs: Tensor) -> ScoreContext:
    split = Split.of_tensors(inputs, torch.zeros(len(inputs), dtype=torch.int64))
    groups = autoprune.discover(net.eval(), (inputs[:2],)).groups
    return ScoreContext(
        device=torch.device("cpu"),
        seed=0,
        data=Data(split, split, split, 2),
        task=Classification(),
        model=net,
        network=net,
        groups=groups,
    )


def scored(net: nn.Module, inputs: Tensor, name: str, scorer: OBS = WHOLE) -> Array:
    ctx = context(net, inputs)
    group = next(group for group in ctx.groups if group.name == name)
    return scorer.score(group, ctx).numpy()


def read(net: nn.Module, layer: nn.Module, inputs: Tensor) -> Tensor:
    """What a layer is given."""
    seen: list[Tensor] = []
    with torch.no_grad(), layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone())):
        net(inputs)
    return torch.cat(seen)


def double(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def correlated(*shape: int, seed: int = 0) -> Tensor:
    """Features that tell about each other, (N, features, …)."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(shape[1], shape[1], generator=generator) * torch.logspace(0, -1, shape[1])
    return torch.einsum("nf...,fe->ne...", torch.randn(*shape, generator=generator), mix) + 0.5


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make()


def features(layer: Any, inputs: Tensor) -> Array:
    """What a weight of each input channel and tap adds to an output, at every position, (R, channels, taps).

    torch computes it with kernels that are 1 in one place.
    """
    run = nn.functional.conv_transpose2d if layer.transposed else nn.functional.conv2d
    maps = []
    for place in itertools.product(*map(range, layer.kernel_size)):
        kernel = torch.zeros(1, 1, *layer.kernel_size)
        kernel[(0, 0, *place)] = 1
        seen = [run(x, kernel, stride=layer.stride, padding=layer.padding) for x in inputs.split(1, dim=1)]
        maps.append(torch.cat(seen, dim=1).movedim(1, -1).flatten(0, -2))
    return double(torch.stack(maps, dim=2))


def numpy_order(scores: Array) -> list[int]:
    return [int(unit) for unit in np.argsort(scores)]


class Perceptron(nn.Sequential):
    def __init__(self, middle: nn.Module, *, bias: bool = True) -> None:
        super().__init__(nn.Linear(6, 8), middle, nn.Linear(8, 5, bias=bias))


@pytest.mark.parametrize("bias", [True, False])
def test_order_and_damage_of_neurons_are_those_of_fits_made_anew(bias: bool) -> None:
    net, inputs = seeded(lambda: Perceptron(nn.ReLU(), bias=bias)), correlated(64, 6)
    rows, weight = double(read(net, net[2], inputs)), double(net[2].weight)
    expected = by_hand(lambda gone: refitted(rows, weight, gone, 1e-3, centre=bias), 8)
    assert scored(net, inputs, "0") == pytest.approx(expected / spread(rows, weight, centre=bias), rel=1e-3)


class Convolutions(nn.Module):
    """Channels read by a convolution, whose taps are a unit's features."""

    def __init__(self, groups: int, *, transposed: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        kind = nn.ConvTranspose2d if transposed else nn.Conv2d
        self.second = kind(6, 4, (3, 2), stride=2, padding=1, groups=groups)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).relu()).mean((2, 3)))


@pytest.mark.slow
@pytest.mark.parametrize(("groups", "transposed"), [(1, False), (2, False), (1, True), (2, True)])
def test_channels_of_a_convolution(groups: int, transposed: bool) -> None:
    net, inputs = seeded(lambda: Convolutions(groups, transposed=transposed)), correlated(16, 2, 6, 6)
    seen = read(net, net.second, inputs)
    rows, weight = features(net.second, seen), double(net.second.weight.flatten(2))
    units, outputs = 6 // groups, 4 // groups

    def damage(gone: list[int]) -> float:
        total = 0.0
        for group in range(groups):
            own = slice(group * units, (group + 1) * units)
            made = slice(group * outputs, (group + 1) * outputs)
            matrix = weight[own].swapaxes(0, 1) if transposed else weight[made]  # (outputs, inputs, taps)
            lost = [6 * unit + tap for unit in gone for tap in range(6)]
            total += refitted(rows[:, own].reshape(len(rows), -1), matrix.reshape(outputs, -1), lost, 1e-3)
        return total

    variance = double(net.second(seen).movedim(1, -1).flatten(0, -2)).var(0).sum()
    assert scored(net, inputs, "first") == pytest.approx(by_hand(damage, units) / variance, rel=1e-3)


class Attention(nn.Module):
    """Four heads of three, whose outputs a linear layer without a bias mixes."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(6, 12) for _ in range(3))
        self.mix = nn.Linear(12, 6, bias=False)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(2, (-1, 3)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        heads = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.head(self.mix(heads.transpose(1, 2).flatten(2)).mean(1))


def test_heads_are_blocks_of_what_mixes_them() -> None:
    net, inputs = seeded(Attention), correlated(32, 6, 5).mT
    rows, weight = double(read(net, net.mix, inputs).flatten(0, 1)), double(net.mix.weight)

    def damage(gone: list[int]) -> float:
        return refitted(rows, weight, [3 * head + entry for head in gone for entry in range(3)], 1e-3, centre=False)

    name = next(group.name for group in context(net, inputs).groups if group.granularity == "head")
    expected = by_hand(damage, 4) / spread(rows, weight, centre=False)
    assert scored(net, inputs, name) == pytest.approx(expected, rel=1e-3)


class TwoReaders(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.made = nn.Linear(6, 7)
        self.one, self.other = nn.Linear(7, 3), nn.Linear(7, 2)
        with torch.no_grad():
            self.other.weight.mul_(100)  # scale is no importance

    def forward(self, x: Tensor) -> Tensor:
        x = self.made(x).tanh()
        return torch.cat([self.one(x), self.other(x)], dim=1)


def test_readers_add_up_each_relative_to_its_outputs() -> None:
    net, inputs = seeded(TwoReaders), correlated(64, 6)
    rows = double(read(net, net.one, inputs))
    weights = [double(net.one.weight), double(net.other.weight)]
    expected = by_hand(
        lambda gone: sum(refitted(rows, weight, gone, 1e-3) / spread(rows, weight) for weight in weights), 7
    )
    assert scored(net, inputs, "made") == pytest.approx(expected, rel=1e-3)


def test_a_combination_of_others_goes_first_and_costs_nothing() -> None:
    net, inputs = seeded(lambda: nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))), torch.randn(64, 6)
    with torch.no_grad():
        for values in (net[0].weight, net[0].bias):
            values[4] = values[0] - 2 * values[1]
    scores = scored(net, inputs, "0", OBS(samples=64, damping=1e-6))
    first, second, *_ = numpy_order(scores)
    assert first in {0, 1, 4}
    assert scores[first] < 1e-5
    assert scores[second] > 1e-3, "what is left of the three, and the others, cannot be made up for"


def test_of_two_alike_one_goes_first_and_the_other_then_matters() -> None:
    net, inputs = seeded(lambda: Perceptron(nn.ReLU())), correlated(64, 6)
    with torch.no_grad():
        net[0].weight[5], net[0].bias[5] = net[0].weight[2], net[0].bias[2]
        net[2].weight[:, 5] = 3 * net[2].weight[:, 2]
    scores = scored(net, inputs, "0", OBS(samples=64, damping=1e-6))
    first, second, *_ = numpy_order(scores)
    assert first in {2, 5}
    assert scores[first] < 1e-5
    merged = copy.deepcopy(net)
    with torch.no_grad():
        merged[2].weight[:, 2] += merged[2].weight[:, 5]
        merged[2].weight[:, 5] = 0
    rows, weight = double(read(merged, merged[2], inputs)), double(merged[2].weight)
    alone = refitted(rows, weight, [2, 5], 1e-6) / spread(rows, weight)
    other = 7 - first
    assert scores[other] >= alone * 0.99 > 1e-3
    assert other != second or alone == pytest.approx(scores[other], rel=1e-2)


def test_units_that_nothing_tells_apart_still_are_in_an_order() -> None:
    net, inputs = seeded(lambda: Perceptron(nn.ReLU())), correlated(64, 6)
    with torch.no_grad():
        net[0].weight[2:6] = 0
        net[0].bias[2:6] = -1  # never on
    scores = scored(net, inputs, "0")
    assert set(numpy_order(scores)[:4]) == {2, 3, 4, 5}
    assert len(set(scores.tolist())) == 8


def test_many_units_go_a_few_at_a_time_and_the_damage_is_exact_all_the_same() -> None:
    net = seeded(lambda: nn.Sequential(nn.Linear(40, 150), nn.ReLU(), nn.Linear(150, 4)))
    inputs = correlated(400, 40)
    scores = scored(net, inputs, "0", OBS(samples=400))
    rows, weight = double(read(net, net[2], inputs)), double(net[2].weight)
    order = numpy_order(scores)
    for count in (1, 2, 3, 50, 149):
        expected = refitted(rows, weight, order[:count], 1e-3) / spread(rows, weight)
        assert scores[order[count - 1]] == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_weights_of_bfloat16() -> None:
    net, inputs = seeded(lambda: Perceptron(nn.ReLU())), correlated(64, 6)
    low = copy.deepcopy(net).bfloat16()
    scores = scored(low, inputs.bfloat16(), "0")
    assert scores == pytest.approx(scored(low.float(), inputs.bfloat16().float(), "0"), rel=0.1)


def test_on_digits(net: nn.Module, ctx: ScoreContext, groups: dict[str, Group]) -> None:
    """Behind the normalisation, on the samples that the seed draws, at a stride."""
    ((images, _),) = ctx.data.train.batches(64, samples=64, generator=ctx.generator())
    seen: list[Tensor] = []
    with torch.no_grad(), net.conv2.register_forward_pre_hook(lambda _, args: seen.append(args[0])):
        images.feed(ctx.model)
    rows, weight = features(net.conv2, seen[0]).reshape(-1, 45), double(net.conv2.weight.flatten(1))

    def damage(gone: list[int]) -> float:
        return refitted(rows, weight, [9 * unit + tap for unit in gone for tap in range(9)], 1e-3)

    scores = WHOLE.score(groups["conv1"], ctx).numpy()
    assert scores == pytest.approx(by_hand(damage, 5) / spread(rows, weight), rel=1e-3)
    few = OBS(samples=64, rows=512).score(groups["conv1"], dataclasses.replace(ctx, cache={})).numpy()
    assert few != pytest.approx(scores, rel=1e-6)
    assert few == pytest.approx(scores, rel=0.3)


def test_one_pass_serves_all_groups(ctx: ScoreContext, net: nn.Module, groups: dict[str, Group]) -> None:
    samples: list[int] = []
    net.register_forward_hook(lambda _, args, __: samples.append(len(args[0])))
    for group in groups.values():
        OBS(samples=80).score(group, ctx)
    assert sum(samples) == 80


def test_what_does_not_fit_into_memory_together_takes_more_passes(
    ctx: ScoreContext, net: nn.Module, groups: dict[str, Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = {name: WHOLE.score(group, ctx) for name, group in groups.items()}
    monkeypatch.setattr("autoprune_scorers._readers._BYTES", 8 * (96**2 + 12**2))  # the two widest readers
    samples: list[int] = []
    net.register_forward_hook(lambda _, args, __: samples.append(len(args[0])))
    own = dataclasses.replace(ctx, cache={})
    for name, group in groups.items():
        # One layer reads more features than there are rows, which makes the most of a rounding error.
        assert torch.allclose(WHOLE.score(group, own), together[name], rtol=1e-2)
    assert sum(samples) == 2 * 64
    monkeypatch.setattr("autoprune_scorers._readers._BYTES", 8 * 95**2)
    with pytest.raises(TrialError, match=r"'conv2'.*memory"):
        WHOLE.score(groups["conv2"], dataclasses.replace(ctx, cache={}))


@pytest.mark.slow
def test_readers_that_are_not_called_do_not_count() -> None:
    """nn.MultiheadAttention computes with its projection's weight itself; the feed-forward layer is called."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), nn.Flatten(), nn.Linear(24, 2))
    inputs = correlated(32, 8, 3).mT
    ctx = context(net, inputs)
    groups = {group.name: group for group in ctx.groups}
    with pytest.raises(TrialError, match=r"self_attn\.out_proj\.weight"):
        WHOLE.score(groups["0.self_attn"], ctx)
    rows = double(read(net, net[0].linear2, inputs).flatten(0, 1))
    weight = double(net[0].linear2.weight)
    expected = by_hand(lambda gone: refitted(rows, weight, gone, 1e-3), 12) / spread(rows, weight)
    assert WHOLE.score(groups["0.linear1"], ctx).numpy() == pytest.approx(expected, rel=1e-3)


def test_what_it_cannot_rank_is_told(ctx: ScoreContext, groups: dict[str, Group]) -> None:
    hidden = groups["hidden"]
    weights = Group("hidden.weight", 1152, "weight", ("hidden",), masked="hidden.weight")
    blocks = Group("blocks", 1, "block", ("hidden",), owned=(("hidden.weight", "hidden.bias"),))
    unread = dataclasses.replace(hidden, slices=tuple(part for part in hidden.slices if part.role != "input"))
    assert OBS().refuses(hidden) is None
    for group, told in ((weights, "weights"), (blocks, "blocks"), (unread, "no weight reads")):
        assert told in (OBS().refuses(group) or "")
        with pytest.raises(TrialError, match=told):
            OBS().score(group, dataclasses.replace(ctx, groups=(group,), cache={}))


def test_constant_inputs_tell_nothing(ctx: ScoreContext, net: nn.Module, groups: dict[str, Group]) -> None:
    with torch.no_grad():
        net.hidden.weight.zero_()
    with pytest.raises(TrialError, match=r"'hidden'.*constant"):
        OBS().score(groups["hidden"], ctx)


def test_a_damping_that_rounding_hides_is_told(ctx: ScoreContext, groups: dict[str, Group]) -> None:
    """Fewer rows than features leave the second moments singular."""
    with pytest.raises(TrialError, match=r"'conv2'.*damping is too small"):
        OBS(samples=64, damping=1e-14).score(groups["conv2"], ctx)


def test_layers_of_a_weight_that_is_shared_do_not_count(ctx: ScoreContext) -> None:
    one = nn.Linear(3, 3)
    net = nn.Sequential(one, nn.Linear(3, 3), nn.Linear(3, 10))
    net[1].weight = one.weight
    place = Slice("0.weight", 1, torch.arange(3)[:, None], "input")
    group = Group("x", 3, "neuron", ("x",), (place,))
    own = dataclasses.replace(ctx, model=net, network=net, groups=(group,), cache={})
    with pytest.raises(TrialError, match=r"'x'.*weight of its own"):
        OBS().score(group, own)


def test_the_network_is_left_as_it_was() -> None:
    Bench().score(OBS())  # which looks at weights, modes and hooks


@pytest.mark.slow
def test_on_resnet20_half_of_the_units_miss_less_than_by_magnitude(monkeypatch: pytest.MonkeyPatch) -> None:
    """On images that neither scorer has seen, whatever reads the units being fitted anew."""
    folder = (ROOT / os.environ.get("AUTOPRUNE_DATA", "../shared")).resolve()
    monkeypatch.setenv("AUTOPRUNE_DATA", str(folder))
    host = PluginHost()
    spec = load_spec(ROOT / "search_spaces/examples/cifar10_resnet20.yaml", host=host)
    source = SourceContext(spec.document.folder, ROOT, 0)
    parts = bind(spec, host)
    data = parts.data.load(source)
    bench = Bench(parts.model.load(data, source), data)
    scores, sizes = bench.score(OBS()), bench.score(L1())
    images = bench.predictor(bench.network).normalized(data.test.fetch(torch.arange(24))[0]).first
    modules = dict(bench.network.named_modules())
    inner = [name for name in scores if name.startswith("layer")]
    assert len(inner) == 9
    for name in inner:
        reader = modules[name.removesuffix("1") + "2"]
        seen: list[Tensor] = []
        with torch.no_grad(), reader.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0])):
            bench.network(images)
        rows, weight = features(reader, seen[0]), double(reader.weight.flatten(1))

        def missed(by: Tensor, rows: Array = rows, weight: Array = weight) -> float:
            gone = by.argsort()[: len(by) // 2].tolist()
            lost = [9 * unit + tap for unit in gone for tap in range(9)]
            return refitted(rows.reshape(len(rows), -1), weight, lost, 1e-3)

        assert missed(scores[name]) < missed(sizes[name]), name
