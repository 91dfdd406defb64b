"""Costs of many candidates at once equal those of one after the other."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.structure import discover


class Bottleneck(nn.Module):
    def __init__(self, inner: int) -> None:
        super().__init__()
        self.into = nn.Conv2d(8, inner, 1)
        self.out = nn.Conv2d(inner, 8, 3, padding=1)

    def forward(self, x):
        return x + self.out(torch.relu(self.into(x)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one = nn.Conv2d(8, 12, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.two = nn.Conv2d(12, 8, 3, padding=1)
        self.stage = nn.Sequential(Bottleneck(6), Bottleneck(3), Bottleneck(10))
        self.wide = nn.Conv2d(16, 10, 1)
        self.head = nn.Linear(10, 4)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = x + self.two(torch.relu(self.norm(self.one(x))))
        x = self.stage(x)
        x = torch.relu(self.wide(torch.cat([x, x], dim=1)))
        return self.head(x.mean(dim=(2, 3)))


def found(*granularities):
    torch.manual_seed(0)
    return discover(Residual().eval(), (torch.randn(2, 3, 8, 8),), list(granularities))


def drawn(structure, count=60):
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(0, g.units, count) // g.step * g.step for g in structure.groups], axis=1)


def test_of_channels_it_is_exact():
    structure = found("channels")
    rows = drawn(structure)
    many = structure.cost_table(rows)
    for row, costs in zip(rows, many, strict=True):
        assert costs == structure.costs(dict(zip([g.name for g in structure.groups], row.tolist(), strict=True)))
    names = [group.name for group in structure.groups]
    assert {"stem", "one", "stage.0.into"} <= set(names)
    met = {frozenset(names[g] for g in meeting) for meeting in structure.cost_table.meetings}
    assert frozenset(("stem", "one")) in met
    assert frozenset(("one", "stage.0.into")) not in met


@pytest.mark.slow
@pytest.mark.parametrize("granularities", [("blocks",), ("channels", "blocks")])
@pytest.mark.parametrize("gone", [1, 2])
def test_of_blocks_it_is_the_mean_over_which_ones_go(granularities, gone):
    structure = found(*granularities)
    names = [group.name for group in structure.groups]
    (blocks,) = (group for group in structure.groups if group.owned)
    rows = drawn(structure, 20)
    rows[:, names.index(blocks.name)] = gone
    for row, costs in zip(rows, structure.cost_table(rows), strict=True):
        cut = dict(zip(names, row.tolist(), strict=True))
        each = [structure.costs(cut, layers) for layers in combinations(blocks.layers, gone)]
        assert len({costs.params for costs in each}) > 1, "it matters which ones go"
        for value in ("params", "macs", "bytes", "nonzero"):
            mean = sum(getattr(costs, value) for costs in each) / len(each)
            assert getattr(costs, value) == pytest.approx(mean, rel=0, abs=1)  # whole numbers are told


def test_of_weights_it_is_exact_but_for_rounding():
    structure = found("channels", "weights")
    rows = drawn(structure, 20)
    for row, costs in zip(rows, structure.cost_table(rows), strict=True):
        exact = structure.costs(dict(zip([g.name for g in structure.groups], row.tolist(), strict=True)))
        assert (costs.params, costs.macs, costs.bytes) == (exact.params, exact.macs, exact.bytes)
        assert abs(costs.nonzero - exact.nonzero) <= len(structure.groups)


class Tied(nn.Module):
    """One layer under two names, and a weight of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(6, 8)
        self.again = self.one
        self.two = nn.Linear(8, 8)
        self.three = nn.Linear(8, 8)
        self.three.weight = self.two.weight
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.three(torch.relu(self.two(torch.relu(self.again(x))))))


@pytest.mark.parametrize("granularities", [("channels",), ("channels", "blocks"), ("channels", "weights")])
def test_of_each_layer_it_is_what_a_cut_of_the_whole_network_says(granularities):
    structure = found(*granularities)
    names = [group.name for group in structure.groups]
    rows = drawn(structure, 20)
    for row, layers in zip(rows, structure.layer_table(rows), strict=True):
        one = structure.layer_costs(dict(zip(names, row.tolist(), strict=True)))
        assert set(layers) == set(one)
        assert len(layers) == len(one)
        for name, layer in one.items():
            assert (layers[name].kind, layers[name].shapes) == (layer.kind, layer.shapes)
            for value in ("params", "macs", "bytes"):
                assert getattr(layers[name].costs, value) == getattr(layer.costs, value)
            assert abs(layers[name].costs.nonzero - layer.costs.nonzero) <= ("weights" in granularities)


def test_of_tied_layers_the_first_one_has_the_weight():
    structure = discover(Tied().eval(), (torch.randn(2, 6),), ["channels"])
    rows = drawn(structure, 5)
    for row, layers in zip(rows, structure.layer_table(rows), strict=True):
        assert dict(layers) == structure.layer_costs(
            dict(zip([g.name for g in structure.groups], row.tolist(), strict=True))
        )
    assert "again" not in layers


def test_a_layer_of_a_block_stays_in_a_share_of_the_choices():
    structure = found("blocks")
    (blocks,) = structure.groups
    (layers,) = structure.layer_table(np.array([[1]]))
    assert layers.share("stage.1.into") == pytest.approx(1 - 1 / blocks.units)
    assert layers.share("head") == 1.0
