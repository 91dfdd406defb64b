"""A repair after a cut of one group alone, by sums of products of the dense network's run."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoprune.plugin import Group, Pruned
from autoprune.testing import Bench
from autoprune_recoveries.repair import Repair

from .noise import data, error


class Net(nn.Module):
    """A stem whose channels are read twice, a grouped convolution, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one, self.norm1 = nn.Conv2d(8, 12, 3, bias=False), nn.BatchNorm2d(12)
        self.other = nn.Conv2d(8, 12, 3)
        self.groups, self.norm2 = nn.Conv2d(12, 12, 3, groups=3, bias=False), nn.BatchNorm2d(12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (self.norm1(self.one(x)) + self.other(x)).relu()
        return self.head(self.norm2(self.groups(x)).relu().mean((2, 3)))


@pytest.fixture
def bench() -> Bench:
    torch.manual_seed(0)
    network = Net()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(32, 3, 8, 8))  # its norms have seen something
    return Bench(network.eval(), data((3, 8, 8), 4))


def alone(bench: Bench, group: str, units: int) -> tuple[nn.Module, nn.Module, bool]:
    """A cut of that group as it is, repaired for a probe, and whether it was."""
    kept = {group: bench.pruned({group: units}).kept[group]}
    repaired, done = bench.recover_alone(Repair(), group, units)
    return bench.structure.cut(bench.network, kept).eval(), repaired.network, done


@pytest.mark.slow
@pytest.mark.parametrize(("group", "units"), [("stem", 2), ("stem", 5), ("one", 3), ("one", 6)])
def test_the_outputs_are_nearer(bench, group, units):
    before, after, done = alone(bench, group, units)
    assert done
    assert error(bench, after) < 0.7 * error(bench, before)


def test_it_is_ridge_regression_of_the_dense_outputs():
    """Against NumPy, of a net whose every position is a row."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 5)).eval()
    bench = Bench(network, data((6,), 4))
    (group,) = bench.structure.groups
    _, after, done = alone(bench, group.name, 4)
    assert done
    inputs = bench.data.train.fetch(torch.arange(256))[0].first
    kept = bench.pruned({group.name: 4}).kept[group.name].numpy()
    with torch.no_grad():
        hidden = network[1](network[0](inputs)).double().numpy()
        wanted = network[2](network[1](network[0](inputs))).double().numpy()
    x, near = hidden[:, kept], network[2].weight.detach().double().numpy()[:, kept]
    centred, t = x - x.mean(0), wanted - wanted.mean(0)
    damped = Repair().damping * np.trace(centred.T @ centred / 256) / len(kept)
    rows = np.concatenate([centred / 16, np.sqrt(damped) * np.eye(len(kept))])
    right = np.concatenate([t / 16, np.sqrt(damped) * near.T])
    weight = np.linalg.lstsq(rows, right, rcond=None)[0].T
    np.testing.assert_allclose(after[2].weight.detach().numpy(), weight, atol=1e-4)
    np.testing.assert_allclose(after[2].bias.detach().numpy(), wanted.mean(0) - weight @ x.mean(0), atol=1e-4)


def test_weights_that_are_masked_stay_so():
    torch.manual_seed(0)
    bench = Bench(nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 5)).eval(), data((6,), 4))
    mask = torch.rand(5, 9, generator=torch.Generator().manual_seed(1)) < 0.5
    masked = copy.deepcopy(bench.network)
    with torch.no_grad():
        masked[2].weight.mul_(mask)
    before = error(bench, masked)
    group = Group("2.weight", 45, "weight", ("2",), masked="2.weight")
    ctx = replace(bench.prune_context(), groups=(*bench.structure.groups, group))
    assert Repair().recover_alone(Pruned(masked, {"2.weight": mask.flatten()}), ctx)
    assert torch.equal(masked[2].weight != 0, mask)
    assert error(bench, masked) < 0.9 * before


def test_nothing_is_done_where_nothing_reads_the_group_as_a_layer_does():
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 9), nn.Parameter(torch.randn(9, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.first(x).relu() @ self.last

    torch.manual_seed(0)
    bench = Bench(Product().eval(), data((6,), 4))
    (group,) = bench.structure.groups
    before, after, done = alone(bench, group.name, 4)
    assert not done
    assert error(bench, after) == error(bench, before)


class Own(nn.Module):
    """A linear layer of one's own, and one that is called by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.weight = nn.Linear(6, 9), nn.Parameter(torch.randn(8, 9))
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(input=nn.functional.linear(self.first(x).relu(), self.weight).relu())


def test_layers_of_ones_own_and_keywords_are_no_hindrance():
    torch.manual_seed(0)
    bench = Bench(nn.Sequential(Own(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4)).eval(), data((6,), 4))
    done = {group.name: alone(bench, group.name, 2)[2] for group in bench.structure.groups}
    assert set(done.values()) >= {True}, done
