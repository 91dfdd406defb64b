"""What a repair gives back, against the dense network's own outputs."""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoprune.plugin import Data, Inputs, PruneContext, Pruned, Split
from autoprune.structure import discover
from autoprune.testing import Bench
from autoprune_recoveries._dataflow import Tap, Way, ways
from autoprune_recoveries._whole import Whole
from autoprune_recoveries.bn_recalibration import BatchNormRecalibration
from autoprune_recoveries.repair import Repair
from autoprune_tasks.embedding import Embedding

from .noise import data, error


class Block(nn.Module):
    """A convolution, its norm, and the input beside them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(width, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.second, self.norm2 = nn.Conv2d(12, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.second(self.norm1(self.first(x)).relu()))
        return (x + y).relu()


class Net(nn.Module):
    """A stem, two blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(Block(8), Block(8))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


@pytest.fixture
def bench() -> Bench:
    torch.manual_seed(0)
    network = Net()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(32, 3, 8, 8))  # its norms have seen something
    return Bench(network.eval(), data((3, 8, 8), 4))


def equal_units() -> Bench:
    """A net whose units 6 to 11 are units 0 to 5 again."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 5))
    with torch.no_grad():
        network[0].weight[6:] = network[0].weight[:6]
        network[0].bias[6:] = network[0].bias[:6]
    return Bench(network, data((10,), 5))


def test_units_that_others_stand_for_are_given_back_exactly():
    """Of equal units the readers of those that stay take over what the others said."""
    bench = equal_units()
    (group,) = bench.structure.groups
    pruned = bench.pruned({group.name: 6})
    before = error(bench, copy.deepcopy(pruned.network))
    bench.recover(Repair(damping=1e-9), pruned)
    assert before > 0.1
    assert error(bench, pruned.network) < 1e-6
    torch.testing.assert_close(pruned.network[0].weight, bench.network[0].weight[:6])


@pytest.mark.parametrize("kind", ["linear", "convolution", "transposed"])
def test_units_that_are_combinations_of_those_that_stay_are_given_back_exactly(kind):
    torch.manual_seed(0)
    first, second, shape = {
        "linear": (nn.Linear(10, 12), nn.Linear(12, 5), (10,)),
        "convolution": (nn.Conv2d(3, 12, 3), nn.Conv2d(12, 5, 3, stride=2), (3, 9, 9)),
        "transposed": (nn.Conv1d(3, 12, 3), nn.ConvTranspose1d(12, 5, 4, stride=2, padding=1, bias=False), (3, 9)),
    }[kind]
    network = nn.Sequential(first, second, nn.Flatten(1))
    with torch.no_grad():
        mix = torch.randn(6, 6) / 2
        first.weight[6:] = (mix @ first.weight[:6].flatten(1)).view_as(first.weight[6:])
        first.bias[6:] = mix @ first.bias[:6] + (torch.randn(6) if second.bias is not None else 0)
    bench = Bench(network, data(shape, 5), task=Embedding())
    (group,) = bench.structure.groups
    pruned = bench.pruned({group.name: 6})
    before = error(bench, copy.deepcopy(pruned.network))
    bench.recover(Repair(damping=1e-8), pruned)
    assert before > 0.01
    assert error(bench, pruned.network) < 1e-8 * before


def test_a_residual_net_answers_more_like_the_dense_one(bench):
    pruned = bench.pruned(bench.uniform(0.4))
    before = error(bench, copy.deepcopy(pruned.network))
    bench.recover(Repair(), pruned)
    assert error(bench, pruned.network) < 0.5 * before


def test_nothing_changes_where_nothing_was_cut(bench):
    pruned = bench.pruned({})
    state = copy.deepcopy(pruned.network.state_dict())
    bench.recover(Repair(), pruned)
    assert all(torch.equal(tensor, state[name]) for name, tensor in pruned.network.state_dict().items())


def test_weights_that_were_set_to_zero_stay_zero():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 5))
    bench = Bench(network, data((10,), 5))
    pruned = bench.pruned({bench.structure.groups[0].name: 4})
    mask = torch.rand(5, 8, generator=torch.Generator().manual_seed(1)) < 0.5
    with torch.no_grad():
        pruned.network[2].weight.mul_(mask)
    groups = (*bench.structure.groups, _masked("2.weight", mask.numel()))
    context = bench.prune_context()
    object.__setattr__(context, "groups", groups)
    pruned = Pruned(pruned.network, {**pruned.kept, "2.weight": mask.flatten()})
    before = error(bench, copy.deepcopy(pruned.network))
    Repair().recover(pruned, context)
    assert not pruned.network[2].weight[~mask].any()
    assert error(bench, pruned.network) < before


def _masked(name: str, units: int) -> object:
    from autoprune.plugin import Group

    return Group(name, units, "weight", (name.rpartition(".")[0],), masked=name)


def exported(bench: Bench) -> Bench:
    """The same bench, pruned networks of which are exported graphs."""
    bench.structure = discover(bench.network, bench.examples(), form="graph", counts=bench.task.pick)
    return bench


@pytest.mark.slow
def test_an_exported_graph_is_repaired_as_its_modules_are(bench):
    cut_units = bench.uniform(0.4)
    modules = bench.pruned(cut_units)
    graph = exported(bench).pruned(cut_units)
    assert isinstance(graph.network, torch.fx.GraphModule)
    bench.recover(Repair(), graph)
    fresh = Bench(bench.network, bench.data)
    fresh.recover(Repair(), modules)
    for name, tensor in modules.network.state_dict().items():
        torch.testing.assert_close(graph.network.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["modules", "graph"])
def test_the_blocks_behind_make_up_for_one_that_is_left_out(form):
    torch.manual_seed(0)
    network = Net()
    network.blocks.extend([Block(8), Block(8)])
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(32, 3, 8, 8))
    bench = Bench(network.eval(), data((3, 8, 8), 4))
    bench.structure = discover(network, bench.examples(), ["blocks"], form="graph" if form == "graph" else "modules")
    (group,) = bench.structure.groups
    kept = {group.name: torch.tensor([unit for unit, layer in enumerate(group.layers) if layer != "blocks.1"])}
    pruned = Pruned(bench.structure.cut(network, kept).eval(), kept)
    before, first = error(bench, copy.deepcopy(pruned.network)), network.blocks[0].second.weight
    bench.recover(Repair(), pruned)
    assert torch.equal(pruned.network.get_parameter("blocks.0.second.weight"), first)
    assert not torch.equal(pruned.network.get_parameter("blocks.2.second.weight"), network.blocks[2].second.weight)
    assert error(bench, pruned.network) < 0.5 * before


class Half(nn.Module):
    """A net whose numbers are bfloat16."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.bfloat16()).float()


def test_a_network_in_bfloat16_is_repaired_and_stays_one(bench):
    network = Half(copy.deepcopy(bench.network))
    low = Bench(network, bench.data)
    whole = low.pruned({})
    bench.recover(Repair(), bench.pruned({}))
    low.recover(Repair(), whole)
    assert all(torch.equal(a, b) for a, b in zip(whole.network.parameters(), network.parameters(), strict=True))
    pruned = low.pruned(low.uniform(0.4))
    before = error(low, copy.deepcopy(pruned.network))
    low.recover(Repair(), pruned)
    assert {parameter.dtype for parameter in pruned.network.parameters()} == {torch.bfloat16}
    assert error(low, pruned.network) < 0.5 * before


def test_under_autocast_sums_are_as_exact_as_without():
    class Autocast(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.network(x).float()

    bench = equal_units()
    pruned = bench.pruned({bench.structure.groups[0].name: 6})
    before = error(bench, copy.deepcopy(pruned.network))
    Repair(damping=1e-5).recover(pruned, dataclasses.replace(bench.prune_context(), predictor=Autocast))
    assert error(bench, pruned.network) < 2e-5 * before


class Encoder(nn.Module):
    """Layers of torch's own, which compute with the weights of their attention by a function."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        layer = nn.TransformerEncoderLayer(12, 4, 20, batch_first=batch_first)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x if self.batch_first else x.transpose(0, 1))
        return self.head(y.mean(1 if self.batch_first else 0))


@pytest.mark.slow
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("form", ["modules", "graph"])
def test_projections_of_attention_take_over_what_equal_heads_said(batch_first, form):
    """Heads 0 and 2 are equal, and 1 and 3; neurons likewise."""
    torch.manual_seed(0)
    network = Encoder(batch_first=batch_first).eval()
    with torch.no_grad():
        for layer in network.layers.layers:
            for rows in (*layer.self_attn.in_proj_weight.chunk(3), *layer.self_attn.in_proj_bias.chunk(3)):
                rows[6:] = rows[:6]
            for rows in (layer.linear1.weight, layer.linear1.bias):
                rows[10:] = rows[:10]
    bench = Bench(network, data((5, 12), 4))
    if form == "graph":
        exported(bench)
    for what in ("self_attn", "linear1"):
        pruned = bench.pruned({g.name: g.units // 2 for g in bench.structure.groups if g.name.endswith(what)})
        before = error(bench, copy.deepcopy(pruned.network))
        bench.recover(Repair(damping=1e-9), pruned)
        assert before > 1e-3
        assert error(bench, pruned.network) < 1e-6 * before


class Mix(nn.Module):
    """A product of its own with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.randn(16, 10) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.mixing


class Tied(nn.Module):
    """A table that is both embedding and head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 10)
        self.up, self.down = nn.Linear(10, 16), Mix()

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)
        x = x + self.down(self.up(x).relu())
        return nn.functional.linear(x, self.embedding.weight).mean(1)


def test_weights_of_code_are_fitted_and_those_with_two_uses_are_not():
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(0)
    split = Split.of_tensors(torch.randint(20, (256, 6), generator=random), torch.zeros(256, dtype=torch.int64))
    bench = Bench(Tied(), Data(split, split, split, 20))
    pruned = bench.pruned({group.name: 6 for group in bench.structure.groups if group.name == "up"})
    before, down = error(bench, copy.deepcopy(pruned.network)), pruned.network.down.mixing.clone()
    bench.recover(Repair(), pruned)
    assert torch.equal(pruned.network.embedding.weight, bench.network.embedding.weight)
    assert not torch.equal(pruned.network.down.mixing, down)
    assert error(bench, pruned.network) < 0.7 * before


class Reader(nn.Module):
    """A recurrent layer and a head on its last state."""

    def __init__(self, kind: type[nn.RNNBase], layers: int, *, bidirectional: bool, batch_first: bool) -> None:
        super().__init__()
        self.rnn = kind(6, 8, layers, bidirectional=bidirectional, batch_first=batch_first)
        self.head, self.batch_first = nn.Linear(16 if bidirectional else 8, 4), batch_first

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x if self.batch_first else x.transpose(0, 1))
        return self.head(y[:, -1] if self.batch_first else y[-1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(("layers", "bidirectional", "batch_first"), [(1, False, True), (2, True, False)])
def test_recurrent_layers_take_over_what_equal_units_remembered(kind, layers, bidirectional, batch_first):
    """Units 4 to 7 are units 0 to 3 again."""
    torch.manual_seed(0)
    network = Reader(kind, layers, bidirectional=bidirectional, batch_first=batch_first).eval()
    with torch.no_grad():
        for parameter in network.rnn.parameters():
            gates = parameter.view(-1, 8, *parameter.shape[1:])
            gates[:, 4:] = gates[:, :4]
    bench = Bench(network, data((7, 6), 4))
    (group,) = bench.structure.groups
    pruned = bench.pruned({group.name: 4})
    before = error(bench, copy.deepcopy(pruned.network))
    bench.recover(Repair(damping=1e-8), pruned)
    assert before > 1e-3
    assert error(bench, pruned.network) < 1e-5 * before


def test_where_nothing_can_be_fitted_the_norms_are_recalibrated():
    torch.manual_seed(0)

    class Read(nn.Module):
        """Code reads the weight, and not only multiplies by it."""

        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(8)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.layer(x) / self.layer.weight.norm())

    bench = Bench(Read(), data((8,), 8))
    ours, theirs = bench.pruned({}), bench.pruned({})
    bench.recover(Repair(samples=128), ours)
    bench.recover(BatchNormRecalibration(samples=128), theirs)
    assert not torch.equal(ours.network.norm.running_mean, torch.zeros(8))
    torch.testing.assert_close(ours.network.state_dict(), theirs.network.state_dict())


def test_norms_and_shortcuts_are_seen():
    torch.manual_seed(0)
    network = Net().eval()
    inputs = Inputs.of(torch.randn(2, 3, 8, 8))
    found = {name: layer.way for name, layer in ways(network, lambda: inputs.feed(network)).items()}
    assert list(found) == ["stem", "blocks.0.first", "blocks.0.second", "blocks.1.first", "blocks.1.second", "head"]
    assert found["blocks.1.first"] == Way(norm="blocks.1.norm1", rectified=True)
    assert found["blocks.1.second"] == Way(
        "blocks.1.norm2", shortcut=Tap("blocks.1.first", given=False), rectified=True
    )
    assert found["head"] == Way()


def test_a_relu_counts_where_nothing_else_reads_a_sum():
    class PreActivated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = (nn.Linear(8, 8) for _ in range(3))
            self.norm = nn.LayerNorm(8)

        def forward(self, x: Tensor) -> Tensor:
            y = x + self.first(x)
            z = y + self.second(self.norm(y).relu())
            return self.third(z.relu())

    network = PreActivated()
    found = ways(network, lambda: network(torch.randn(3, 8)))
    assert [found[name].way.rectified for name in ("first", "second", "third")] == [False, True, False]


def test_rectified_outputs_are_nearer_than_those_of_least_squares():
    """Of the layer before a ReLU, by numpy's best linear fit to what the dense one gives."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3))
    bench = Bench(network, data((10,), 3))
    pruned = bench.pruned({bench.structure.groups[0].name: 6})
    bench.recover(Repair(damping=1e-7), pruned)
    inputs = bench.data.train.fetch(torch.arange(256))[0].first
    with torch.no_grad():
        dense = network[:3](inputs)
        read = torch.cat([pruned.network[:2](inputs), torch.ones(256, 1)], 1)
        plain = read @ torch.from_numpy(np.linalg.lstsq(read.numpy(), dense.numpy(), rcond=None)[0])
        ours = pruned.network[:3](inputs)
    assert (ours.relu() - dense.relu()).square().mean() < 0.98 * (plain.relu() - dense.relu()).square().mean()
    assert (ours - dense).square().mean() > (plain - dense).square().mean()


def fitted(self: Repair, pruned: Pruned, ctx: PruneContext) -> None:
    """The fits alone."""
    self._fit(pruned, ctx, self._reference(ctx))


def test_fits_of_few_rows_that_make_the_network_worse_are_taken_back(monkeypatch):
    """Layers of many inputs, fitted to a handful of samples: by chance that does harm, which is seen on others."""

    def repaired(seed: int) -> tuple[float, float, bool]:
        torch.manual_seed(seed)
        layers = [module for _ in range(4) for module in (nn.Linear(64, 64), nn.Tanh())]
        network = nn.Sequential(nn.Linear(40, 64), nn.Tanh(), *layers, nn.Linear(64, 3))
        with torch.no_grad():
            for layer in network[::2]:
                layer.weight.mul_(3)  # the outputs hang on everything that came before
        bench = Bench(network, data((40,), 3))
        pruned = bench.pruned({group.name: group.units // 4 for group in bench.structure.groups})
        before = copy.deepcopy(pruned.network)
        bench.recover(Repair(samples=8, damping=1e-6), pruned)
        same = all(map(torch.equal, pruned.network.state_dict().values(), before.state_dict().values()))
        return error(bench, before), error(bench, pruned.network), same

    checked = [repaired(seed) for seed in range(6)]
    monkeypatch.setattr(Repair, "recover", fitted)
    unchecked = [repaired(seed) for seed in range(6)]
    assert not any(same for *_, same in unchecked)
    assert any(after > before for before, after, _ in unchecked)
    assert all(after <= 1.05 * before for before, after, _ in checked)  # 64 samples decide, 64 others are measured
    for (before, after, same), (_, without, _) in zip(checked, unchecked, strict=True):
        assert after == (before if same else without)


def test_fits_that_make_the_network_worse_are_taken_back(monkeypatch):
    """Each layer comes nearer to the dense one's outputs, but what is made of them all is steep."""

    class Steep(nn.Module):
        """Angles between what two halves make of an input, times a lot: random halves err less than mended ones."""

        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Sequential(nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 8))
            self.other = nn.Sequential(nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 8))

        def forward(self, x: Tensor) -> Tensor:
            return torch.sin(20 * (self.one(x) * self.other(x)).sum(1, keepdim=True))

    def repaired(seed: int) -> tuple[float, float]:
        torch.manual_seed(seed)
        bench = Bench(Steep(), data((16,), 1))
        pruned = bench.pruned({group.name: group.units // 2 for group in bench.structure.groups})
        before = error(bench, copy.deepcopy(pruned.network))
        bench.recover(Repair(), pruned)
        return before, error(bench, pruned.network)

    checked = [repaired(seed) for seed in range(8)]
    monkeypatch.setattr(Repair, "recover", fitted)
    unchecked = [repaired(seed) for seed in range(8)]
    assert max(after / before for before, after in unchecked) > 1.1
    assert max(after / before for before, after in checked) < max(after / before for before, after in unchecked)
    for (before, after), (_, without) in zip(checked, unchecked, strict=True):
        assert after in (before, without)


def weight_normed(norm) -> Bench:
    """Convolutions whose weights are norms and directions; units 6 to 11 of the first are units 0 to 5 again."""
    torch.manual_seed(0)
    first, second = nn.Conv1d(3, 12, 3, padding=1), nn.Conv1d(12, 5, 3, padding=1)
    with torch.no_grad():
        first.weight[6:], first.bias[6:] = first.weight[:6], first.bias[:6]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        network = nn.Sequential(norm(first), nn.ReLU(), norm(second))
    return Bench(network.eval(), data((3, 9), 5))


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
def test_weights_that_are_norm_and_direction_are_fitted(norm):
    """As plain ones are; afterwards they are norm and direction again, and the hooks are what they were."""
    bench = weight_normed(norm)
    group = next(group for group in bench.structure.groups if group.units == 12)
    pruned = bench.pruned({group.name: 6})
    before, names = error(bench, copy.deepcopy(pruned.network)), list(pruned.network.state_dict())
    bench.recover(Repair(damping=1e-9), pruned)
    assert before > 0.1
    assert error(bench, pruned.network) < 1e-6
    assert list(pruned.network.state_dict()) == names
    g, v = (each for key, each in pruned.network[2].named_parameters() if not key.endswith("bias"))
    torch.testing.assert_close(pruned.network[2].weight, g * v / v.flatten(1).norm(dim=1).view(-1, 1, 1))
    pruned.network(torch.randn(2, 3, 9)).sum().backward()
    assert g.grad is not None


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
def test_zeros_of_weights_that_are_norm_and_direction_stay(norm):
    bench = weight_normed(norm)
    structure = discover(bench.network, Inputs((torch.randn(2, 3, 9),)), ("weights",))
    group = next(group for group in structure.groups if group.name.startswith("2."))
    kept = {group.name: torch.rand(group.units, generator=torch.Generator().manual_seed(1)) < 0.5}
    pruned = Pruned(structure.cut(bench.network, kept), kept)
    before, zeros = error(bench, pruned.network), pruned.network[2].weight == 0
    context = bench.prune_context()
    object.__setattr__(context, "groups", structure.groups)
    Repair().recover(pruned, context)
    assert zeros.sum() == (~kept[group.name]).sum()
    assert error(bench, pruned.network) < before
    assert torch.equal(pruned.network[2].weight == 0, zeros)


def test_weights_that_cannot_be_set_stay_as_they_were_cut():
    """Spectral norms: what is set does not come back."""
    bench = weight_normed(nn.utils.parametrizations.spectral_norm)
    group = next(group for group in bench.structure.groups if group.units == 12)
    pruned = bench.pruned({group.name: 6})
    before = copy.deepcopy(pruned.network.state_dict())
    bench.recover(Repair(), pruned)
    after = pruned.network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after)


def test_outputs_that_a_cut_has_made_smaller_are_not_compared():
    """As what a language model caches of its heads."""

    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.out = nn.Linear(10, 12), nn.Linear(12, 5)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            hidden = self.into(x).relu()
            return self.out(hidden), hidden

    bench = equal_units()
    (group,) = bench.structure.groups
    ctx, pruned = bench.prune_context(), bench.pruned({group.name: 6})
    dense, smaller = Cached(), Cached()
    dense.into, dense.out = bench.network[0], bench.network[2]
    smaller.into, smaller.out = pruned.network[0], pruned.network[2]
    x = Inputs((torch.randn(8, 10),))
    (logits, _), (expected, hidden) = smaller(*x.args), dense(*x.args)
    context = dataclasses.replace(ctx, predictor=lambda network: network)
    whole = Whole(x, [expected.detach(), hidden.detach()])
    assert whole.error(context, smaller) == pytest.approx(float((logits - expected).detach().square().sum()), rel=1e-5)
    assert whole.error(context, nn.Sequential(nn.Linear(10, 5))) == math.inf
    assert Whole(x, [hidden.detach()]).error(context, smaller.into) == math.inf


def assert_given_back(bench: Bench) -> None:
    """Of twelve units, six of which are the others again, six are enough."""
    pruned = bench.pruned({group.name: 6 for group in bench.structure.groups if group.units == 12})
    before = error(bench, copy.deepcopy(pruned.network))
    bench.recover(Repair(damping=1e-9), pruned)
    assert before > 0.1
    assert error(bench, pruned.network) < 1e-6


class Twin(nn.Module):
    """One encoder for two inputs, and a residual block that runs twice; units 6 to 11 are units 0 to 5 again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(8, 12), nn.BatchNorm1d(12), nn.Linear(12, 5)
        self.up, self.down = nn.Linear(5, 12), nn.Linear(12, 5)
        with torch.no_grad():
            for layer in (self.first, self.up):
                layer.weight[6:], layer.bias[6:] = layer.weight[:6], layer.bias[:6]

    def encoded(self, x: Tensor) -> Tensor:
        return self.second(self.norm(self.first(x)).relu())

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.encoded(x[:, :8]), self.encoded(x[:, 8:])
        y = one - other
        for _ in range(2):
            y = y + self.down(self.up(y).relu())
        return y


@pytest.mark.parametrize("form", ["modules", "graph"])
def test_layers_that_run_several_times_take_over_what_equal_units_said(form):
    torch.manual_seed(0)
    bench = Bench(Twin().eval(), data((16,), 5))
    assert_given_back(exported(bench) if form == "graph" else bench)


def test_layers_that_run_several_times_stay_where_nothing_tells_whether_that_is_better(monkeypatch):
    """As with outputs of no fixed number: each fit is judged by its own rows, which are of the first run."""
    torch.manual_seed(0)
    bench = Bench(nn.Sequential(Twin(), nn.Linear(5, 5)).eval(), data((16,), 5))
    pruned = bench.pruned({group.name: 6 for group in bench.structure.groups if group.units == 12})
    before = copy.deepcopy(pruned.network)
    monkeypatch.setattr(Whole, "error", lambda *_: math.inf)
    bench.recover(Repair(), pruned)
    assert all(map(torch.equal, pruned.network[0].state_dict().values(), before[0].state_dict().values()))
    assert not torch.equal(pruned.network[1].weight, before[1].weight), "it runs once"


def test_ways_are_those_of_the_first_run_where_all_runs_go_on_alike():
    network = Twin().eval()
    found = ways(network, lambda: network(torch.randn(4, 16)))
    assert {name: each.uses for name, each in found.items()} == {"first": 2, "second": 2, "up": 2, "down": 2}
    assert found["first"].way == Way("norm", rectified=True)
    assert found["up"].way == Way(rectified=True)
    assert found["down"].way == Way(shortcut=Tap("up", given=False))


def test_what_helps_the_first_run_alone_is_not_taken(monkeypatch):
    """A layer that runs three times, each time on more: fitted to the first it errs on what it reads at last."""

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.again, self.out = nn.Linear(16, 24), nn.Linear(24, 24), nn.Linear(24, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.into(x).tanh()
            for scale in (0.05, 1.0, 4.0):
                x = torch.sin(scale * self.again(x) + 4 * scale)
            return self.out(x)

    def repaired(seed: int) -> float:
        torch.manual_seed(seed)
        bench = Bench(Deep(), data((16,), 3))
        pruned = bench.pruned({group.name: group.units // 2 for group in bench.structure.groups})
        bench.recover(Repair(), pruned)
        return error(bench, pruned.network)

    ours = [repaired(seed) for seed in range(4)]
    monkeypatch.setattr(Repair, "recover", fitted)
    shared = [repaired(seed) for seed in range(4)]
    monkeypatch.setattr(
        Repair, "recover", lambda self, pruned, ctx: self._fit(pruned, ctx, self._reference(ctx).once())
    )
    once = [repaired(seed) for seed in range(4)]
    assert any(a > b for a, b in zip(shared, once, strict=True))
    assert all(min(a, b) <= c for a, b, c in zip(shared, once, ours, strict=True))
    assert sum(ours) < min(sum(shared), sum(once))


class Gated(nn.Module):
    """A module of three matrices and a bias; units 6 to 11 of both that it hides are units 0 to 5 again."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.gate = nn.Parameter(torch.randn(10, 12) / 3), nn.Parameter(torch.randn(12, 10) / 3)
        self.down, self.shift = nn.Parameter(torch.randn(12, 5) / 3), nn.Parameter(torch.randn(5))
        with torch.no_grad():
            self.up[:, 6:], self.gate[6:] = self.up[:, :6].clone(), self.gate[:6].clone()

    def forward(self, x: Tensor) -> Tensor:
        hidden = (x @ self.up).relu() * nn.functional.linear(x, self.gate).sigmoid()
        return torch.addmm(self.shift, hidden, self.down)


@pytest.mark.parametrize("form", ["modules", "graph"])
def test_modules_with_several_matrices_take_over_what_equal_units_said(form):
    torch.manual_seed(0)
    bench = Bench(nn.Sequential(Gated(), nn.Tanh(), nn.Linear(5, 3)).eval(), data((10,), 3))
    assert_given_back(exported(bench) if form == "graph" else bench)


def test_outputs_of_a_module_with_several_matrices_are_those_that_stay():
    """Its own outputs are cut as well."""
    torch.manual_seed(0)
    bench = Bench(nn.Sequential(Gated(), nn.Tanh(), nn.Linear(5, 3)).eval(), data((10,), 3))
    pruned = bench.pruned(bench.uniform(0.5))
    assert len(pruned.kept) == 2
    before = error(bench, copy.deepcopy(pruned.network))
    down = pruned.network[0].down.clone()
    bench.recover(Repair(), pruned)
    assert not torch.equal(pruned.network[0].down, down)
    assert error(bench, pruned.network) < 0.8 * before
