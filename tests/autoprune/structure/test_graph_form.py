"""The exported graph as the pruned model: what it frees, that it equals the masked original, trains and is saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autoprune import load_program, save_program
from autoprune.errors import StructureError
from autoprune.plugin import SourceContext
from autoprune.structure import discover, load_pruned, write_pruned
from tests import opening
from tests.fresh import returned

from .nets import CASES, discovered, example, perturb
from .operator_nets import Net, convolution, linear
from .test_parity import candidate
from .toy_source import Toy
from .zeros import close, kept_units

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

FREED = {
    "option-a": {"b.0": 8},
    "split-halves": {"stem.0#2": 8},
    "slice-halves": {"stem.0#2": 8},
    "fixed-view": {"b.0": 8},
}
"""What the graph offers besides what the modules do: padded channels, parts of their own sizes, a written size."""


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_cut_graphs_equal_masked_networks_and_cost_what_is_counted(name: str) -> None:
    (net, structure), (_, modules) = discovered(name, "graph"), discovered(name)
    found = {group.name: group.units for group in structure.groups}
    assert found == {group.name: group.units for group in modules.groups} | FREED.get(name, {})
    for seed in range(2):
        kept = candidate(structure, seed)
        small = structure.cut(net, kept)
        inputs = example(CASES[name], samples=3 + seed, seed=seed)  # another batch size than discovery saw
        with torch.no_grad():
            torch.testing.assert_close(small(*inputs), structure.masked(net, kept)(*inputs), atol=1e-5, rtol=1e-5)
        costs = structure.costs({group.name: group.units - len(kept[group.name]) for group in structure.groups})
        assert costs.params == sum(p.numel() for p in small.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), [("fixed-view", "graph"), ("option-a", "graph"), ("vgg", "modules")])
def test_the_graph_is_taken_where_code_refuses_sizes(name: str, form: str) -> None:
    net, _ = discovered(name)
    assert discover(net, example(CASES[name])).form == form


class Normed(nn.Module):
    """Norms, dropouts and a shape written in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(12 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu()
        return self.head(self.drop(x.view(-1, 192)))


def normed() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return perturb(Normed()).eval(), torch.randn(4, 3, 4, 4)


def test_graphs_train_as_modules_do() -> None:
    net, x = normed()
    structure = discover(net, (x,))
    assert structure.form == "graph"
    small = structure.cut(net, {"conv": torch.arange(5)}).train()
    before = small.norm.running_mean.clone()
    a, b = small(x), small(x)
    assert not torch.equal(a, b), "dropout"
    assert not torch.equal(small.norm.running_mean, before)
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    small(x).square().mean().backward()
    optimizer.step()
    assert all(p.grad is not None for p in small.parameters())
    small.eval()
    assert torch.equal(small(x), small(x))
    assert type(small.norm) is nn.BatchNorm2d


class Counting(Normed):
    """Its code makes tensors of its own, where its parameters are."""

    def forward(self, x: Tensor) -> Tensor:
        x = x + torch.arange(4, device=x.device) + torch.zeros(3, 1, 1, device=x.device)
        return super().forward(x)


@pytest.mark.slow
def test_what_a_graph_makes_is_where_its_parameters_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = perturb(Counting()).eval(), torch.randn(4, 3, 4, 4)
    structure = discover(net, (x,), form="graph")
    kept = {"conv": torch.arange(5)}
    small = structure.cut(net, kept)
    save_program(small, (x,), tmp_path / "model.pt2")
    for network in (small, load_program(tmp_path / "model.pt2"), structure.cut(net.to("meta"), kept)):
        assert network.to("meta")(x.to("meta")).device.type == "meta"


def test_graphs_of_one_structure_have_modes_of_their_own() -> None:
    net, x = normed()
    structure = discover(net, (x,))
    first = structure.cut(net, {"conv": torch.arange(5)}).train()
    second = structure.cut(net, {"conv": torch.arange(6)})
    assert not torch.equal(first(x), first(x)), "its dropout goes on"
    assert torch.equal(second(x), second(x))


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}, {"momentum": None}])
def test_norms_of_every_kind_come_back_from_a_program(options: dict[str, object], tmp_path: Path) -> None:
    net, x = normed()
    net.norm = nn.BatchNorm2d(12, **options).eval()  # type: ignore[arg-type]
    save_program(net, (x,), tmp_path / "model.pt2")
    opened = load_program(tmp_path / "model.pt2")
    torch.testing.assert_close(opened(x), net(x))
    torch.manual_seed(1)
    expected = net.train()(x)
    torch.manual_seed(1)
    torch.testing.assert_close(opened.train()(x), expected)
    torch.testing.assert_close(opened.eval()(x), net.eval()(x))


@pytest.mark.slow
def test_blocks_and_zeros_go_with_graphs(tmp_path: Path) -> None:
    net, _ = discovered("encoder-layers")
    inputs = example(CASES["encoder-layers"])
    structure = discover(net, inputs, ["channels", "blocks", "weights"], form="graph")
    cut_units = {g.name: g.units // 2 for g in structure.groups}
    scores = {g.name: torch.rand(g.units, generator=torch.Generator().manual_seed(1)) for g in structure.groups}
    kept = structure.select(scores, cut_units)
    small = structure.cut(net, kept)
    with torch.no_grad():
        torch.testing.assert_close(small(*inputs), structure.masked(net, kept)(*inputs), atol=1e-5, rtol=1e-5)
    costs = structure.costs(cut_units, structure.bypassed(kept))
    assert costs.params == sum(p.numel() for p in small.parameters())
    assert costs.nonzero < 0.8 * costs.params
    write_pruned(
        tmp_path,
        small,
        plan=structure.plan(net, kept),
        kept=kept,
        cut_units=cut_units,
        source=Toy(case="encoder-layers"),
        ctx=SourceContext(folder=tmp_path, cache=tmp_path, seed=0),
        example=structure.example,
    )
    opened = load_pruned(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(opened(*inputs), small(*inputs))
    assert {n for n, p in opened.named_parameters()} == {n for n, p in small.named_parameters()}


@pytest.mark.slow
def test_a_saved_graph_needs_no_code(tmp_path: Path) -> None:
    net, x = normed()
    small = discover(net, (x,)).cut(net, {"conv": torch.arange(5)})
    save_program(small, (x,), tmp_path / "model.pt2")
    other = torch.randn(7, 3, 4, 4)
    torch.testing.assert_close(
        torch.tensor(returned(opening.program, tmp_path / "model.pt2", other.tolist())), small(other)
    )


class DropPath(nn.Module):
    """Stochastic depth (arXiv:1603.09382): does nothing in ``eval()``."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * torch.empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(0.5) / 0.5


class Regularised(nn.Module):
    """What acts in training alone: whole paths, and features of every kind, are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.channels, self.path = nn.Conv2d(3, 8, 3, padding=1), nn.Dropout2d(0.5), DropPath()
        self.branch, self.alpha = nn.Conv2d(8, 8, 3, padding=1), nn.AlphaDropout(0.5)
        self.again, self.head = DropPath(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.channels(torch.relu(self.stem(x)))
        x = x + self.path(torch.relu(self.branch(x)))
        return self.head(self.again(self.alpha(x.mean((2, 3)))))


def test_what_acts_in_training_alone_is_in_the_graph() -> None:
    torch.manual_seed(0)
    network, inputs = Regularised(), torch.randn(4, 3, 8, 8)
    whole = discover(network, inputs, form="graph").cut(network, {})
    assert "forward" not in vars(network.path), "the network is left as it was"
    for mode in (True, False):
        results = []
        for each in (network, whole):
            torch.manual_seed(1)
            results.append(each.train(mode)(inputs))
        torch.testing.assert_close(*results)
        assert (not torch.equal(whole(inputs), results[0])) == mode


class Coded(nn.Module):
    """A part whose name means something else in what runs a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.code, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.code(torch.relu(self.body(x)))))


def test_names_that_a_graph_cannot_hold_are_told(tmp_path: Path) -> None:
    inputs = torch.randn(3, 6)
    for use in (
        lambda: discover(Coded(), inputs, form="graph"),
        lambda: save_program(Coded(), inputs, tmp_path / "p.pt2"),
    ):
        with pytest.raises(StructureError, match=r"called .code., .*rename it"):
            use()
    assert discover(Coded(), inputs).form == "modules"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_many_rounds_do_not_drift(tmp_path: Path) -> None:
    """Cut, save, open and cut again: each model equals what the last one is when masked."""
    torch.manual_seed(0)
    net: nn.Module = nn.Sequential(
        nn.Conv2d(3, 60, 3, padding=1), nn.BatchNorm2d(60), nn.ReLU(), nn.Flatten(), nn.Linear(60 * 16, 4)
    )
    net = perturb(net).eval()
    x = torch.randn(2, 3, 4, 4)
    for left in range(56, 31, -4):
        structure = discover(net, (x,))
        (group,) = structure.groups
        kept = {group.name: torch.randperm(left + 4)[:left].sort().values}
        small = structure.cut(net, kept)
        with torch.no_grad():
            expected = structure.masked(net, kept)(x)
        save_program(small, (x,), tmp_path / "model.pt2")
        net = load_program(tmp_path / "model.pt2")
        with torch.no_grad():
            torch.testing.assert_close(net(x), expected, atol=1e-5, rtol=1e-5)
    assert net.get_parameter("0.weight").shape[0] == 32


def test_files_with_pickles_are_refused(tmp_path: Path) -> None:
    net, x = normed()
    torch.export.save(torch.export.export(net, (x,)), tmp_path / "pickled.pt2")
    with pytest.raises(StructureError, match=r"holds pickled objects .*sample_inputs"):
        load_program(tmp_path / "pickled.pt2")
    (tmp_path / "junk.pt2").write_bytes(b"junk")
    with pytest.raises(StructureError, match="cannot be opened as an exported program"):
        load_program(tmp_path / "junk.pt2")


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU, nn.LeakyReLU])
def test_graphs_act_in_place_once(activation: type[nn.Module]) -> None:
    """What changes its input and returns it is not idle."""
    parts = {
        "i": convolution(3, 16),
        "n": lambda: nn.BatchNorm2d(16),
        "a": lambda: activation(inplace=True),
        "o": linear(16, 4),
    }
    net = Net(lambda m, x: m.o(m.a(m.n(m.i(x))).view(-1, 16, 64).mean(2)), **parts).eval()
    inputs = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    structure = discover(net, inputs)
    assert structure.form == "graph"
    kept = kept_units(structure, 0.5, seed=1)
    small = structure.cut(net, kept)
    with torch.no_grad():
        close(small(inputs), structure.masked(net, kept)(inputs))
    small.train()(inputs).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in small.parameters())
