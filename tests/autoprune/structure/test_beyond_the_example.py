"""What an example does not show: other batches, longer inputs, training."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.structure import discover

from .zeros import close, kept_units


class OfBatch(nn.Module):
    """Code with a written number, so that the graph is what is cut, and a term that hangs on the batch size."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.stem, self.head = how, nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).relu().view(-1, 16, 64).mean(2)
        n = len(x)
        term = {
            "root": lambda: y.sum() / n**0.5,
            "share": lambda: y.sum() * (1 / n),
            "square": lambda: y.sum() / (n * n),
            "half": lambda: y[: max(n // 2, 1)].sum(),
            "pairs": lambda: (y @ y.t()).sum() / (n * (n - 1) + 1),
            "line": lambda: y.sum() / (3 * n + 1),
        }[self.how]()
        return self.head(y) + term


@pytest.mark.parametrize("samples", [2, 3])
@pytest.mark.parametrize("how", ["root", "share", "square", "half", "pairs", "line"])
def test_cuts_are_exact_at_any_batch_size(how: str, samples: int) -> None:
    torch.manual_seed(0)
    network = OfBatch(how).eval()
    structure = discover(network, torch.randn(samples, 3, 8, 8))
    assert structure.form == ("graph" if how == "line" else "modules")
    assert bool(structure.groups) == (how == "line")
    kept = kept_units(structure, 0.5, 1)
    small, masked = structure.cut(network, kept), structure.masked(network, kept)
    for count in (1, 4, 5, 9):
        x = torch.randn(count, 3, 8, 8)
        close(small(x), masked(x))


class Chance(nn.Module):
    """A width, and a number that is as large by chance: the longest sequence, a bound on values, a divisor."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.width, self.number = how, 16, 16
        self.read, self.head = nn.Linear(6, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.read(x).view(len(x), -1, self.width)
        if self.how == "longest" and y.shape[1] > self.number:
            y = y[:, -self.number :]
        if self.how == "bound":
            y = y.clamp(-self.number, self.number)
        return self.head(y.relu()).sum(1) / (self.number if self.how == "divisor" else 1)


@pytest.mark.parametrize("how", ["longest", "bound", "divisor"])
def test_numbers_as_large_as_a_size_by_chance_stay(how: str) -> None:
    torch.manual_seed(0)
    network = Chance(how).eval()
    structure = discover(network, torch.randn(2, 5, 6))
    assert [group.units for group in structure.groups] == [16]
    kept = kept_units(structure, 0.5, 1)
    small, masked = structure.cut(network, kept), structure.masked(network, kept)
    assert (small.number, network.number) == (16, 16)
    assert small.width == len(kept[structure.groups[0].name])
    assert type(small) is type(network) is Chance
    for steps, scale in ((5, 1), (40, 1), (5, 30)):
        x = scale * torch.randn(3, steps, 6)
        close(small(x), masked(x))


class Buckets(nn.Module):
    """Relative positions in as many buckets as a layer has outputs (LongT5, arXiv:2112.07916)."""

    def __init__(self) -> None:
        super().__init__()
        self.buckets = 16
        self.q, self.k, self.v, self.o = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 8)
        self.bias = nn.Embedding(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).view(*x.shape[:2], -1, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        steps = torch.arange(x.shape[1])
        far = (steps[:, None] - steps).abs().clamp(max=self.buckets // 2)
        a = (q @ k.transpose(-1, -2) + self.bias(far).permute(2, 0, 1)).softmax(-1) @ v
        return self.o(a.transpose(1, 2).flatten(2))


def test_buckets_stay_where_heads_go() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(Buckets(), nn.Linear(8, 3)).eval()
    structure = discover(network, torch.randn(4, 5, 8))
    heads = next(group for group in structure.groups if group.units == 4)
    for kept in ([0, 1], [3]):
        units = {heads.name: torch.tensor(kept)}
        small, masked = structure.cut(network, units), structure.masked(network, units)
        assert small[0].buckets == 16
        for steps in (5, 20):
            x = torch.randn(3, steps, 8)
            close(small(x), masked(x))


class Training(nn.Module):
    """Code with written numbers, so that the graph could be cut, which does something else in ``train()``."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.drop = how, nn.Dropout(0.1)
        self.a, self.norm, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.a(x)).relu().view(-1, 16, 8, 8)
        z = self.b(y).relu()
        if self.how == "noise" and self.training:
            z = z * (torch.rand(len(z), 1, 1, 1) > 0.5)
        made = self.head(self.drop((y + z).mean((2, 3))))
        if self.how == "softmax":
            return made if self.training else made.softmax(1)
        if self.how == "map":
            return y if self.training else made
        if self.how == "kept" and not self.training:
            kept = torch.zeros_like(made)
            made = made.exp()
            kept[:, 0] = made[:, 0]
            made[:, 0] = kept[:, 0]
        elif self.how == "kept":
            made = made.exp()
        return made


@pytest.mark.parametrize("how", ["nothing", "noise", "softmax", "map", "kept"])
def test_a_graph_does_not_take_the_place_of_code_that_trains_otherwise(how: str) -> None:
    torch.manual_seed(0)
    network, inputs = Training(how).eval(), torch.randn(2, 3, 8, 8)
    structure = discover(network, inputs)
    if how == "nothing":
        assert structure.form == "graph"
        assert structure.groups
    else:
        assert structure.form == "modules"
        with pytest.raises(StructureError, match=r"gives something else in train\(\)"):
            discover(network, inputs, form="graph")
    small = structure.cut(network, kept_units(structure, 0.5, 1)).train()
    small(inputs).square().sum().backward()
    assert dict(small.named_parameters())["a.weight"].grad is not None


class Remembering(Training):
    """Keeps in itself what it computed, as some code does between two methods (RAFT)."""

    def forward(self, x: Tensor) -> Tensor:
        self.map = self.norm(self.a(x)).relu().view(-1, 16, 8, 8)
        return self.head((self.map + self.b(self.map).relu()).mean((2, 3)))


def test_what_code_keeps_in_the_network_has_no_gradients_afterwards() -> None:
    torch.manual_seed(0)
    network, inputs = Remembering("nothing").eval(), torch.randn(2, 3, 8, 8)
    structure = discover(network, inputs)
    kept = kept_units(structure, 0.5, 1)
    small, masked = structure.cut(network, kept), structure.masked(network, kept)
    with torch.no_grad():
        close(small(inputs), masked(inputs))


class Biased(nn.Module):
    """Attention biases by head and place, which are looked up once for ``eval()`` (LeViT, arXiv:2104.01136)."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.known = 4, {}
        self.qkv, self.out, self.bias = nn.Linear(8, 48), nn.Linear(16, 8), nn.Parameter(torch.randn(4, 9))

    def train(self, mode: bool = True) -> Biased:
        if mode:
            self.known = {}
        return super().train(mode)

    def biases(self, steps: int) -> Tensor:
        places = torch.arange(steps)
        if self.training:
            return self.bias[:, (places[:, None] - places).abs()]
        if steps not in self.known:
            self.known[steps] = self.bias[:, (places[:, None] - places).abs()]
        return self.known[steps]

    def forward(self, x: Tensor) -> Tensor:
        n, steps, _ = x.shape
        q, k, v = self.qkv(x).view(n, steps, self.heads, -1).permute(0, 2, 1, 3).chunk(3, -1)
        mixed = (q @ k.transpose(-1, -2) + self.biases(steps)).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(n, steps, -1))


def test_a_cut_does_not_keep_what_was_looked_up_of_the_old_sizes() -> None:
    torch.manual_seed(0)
    network, inputs = nn.Sequential(Biased(), nn.Linear(8, 3)).eval(), torch.randn(2, 5, 8)
    structure = discover(network, inputs)
    heads = next(group for group in structure.groups if group.units == 4)
    kept = {heads.name: torch.tensor([1, 3])}
    with torch.no_grad():
        network(inputs)  # as when the dense model is measured first
        assert network[0].known
        small = structure.cut(network, kept)
        close(small(inputs), structure.masked(network, kept)(inputs))
    assert not any(module.training for module in small.modules())
    assert network[0].known, "the dense model keeps its own"
