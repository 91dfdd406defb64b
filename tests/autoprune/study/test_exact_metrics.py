"""Exact costs of many candidates with transforms are those of one after the other."""

from __future__ import annotations

import importlib.metadata
from itertools import combinations

import numpy as np
import pytest
import torch
import toy_plugin
from torch import nn

from autoprune.host.plugins import PluginHost
from autoprune.study.resolution import resolve


class Block(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, hidden), nn.Linear(hidden, 6)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))


@pytest.fixture
def host():
    known = ("toy", "tasks", "executors", "transforms")
    return PluginHost([e for e in importlib.metadata.entry_points(group="autoprune") if e.name in known])


@pytest.fixture
def problem(spec, host, monkeypatch):
    """Makes one of residual blocks, whose linear layers may have lower ranks."""
    net = nn.Sequential(Block(16), Block(24), Block(40), nn.Linear(6, 3))
    monkeypatch.setattr(toy_plugin.ToyModel, "build", lambda self, ctx: net)

    def make(granularities):  # as a worker, which doesn't try the toy's scorer: it ranks no blocks
        return resolve(spec(f"search_space={{use: {granularities}}}", "transforms=[{use: low-rank}]"), host, worker=0)

    return make


def drawn(problem, count=20):
    rng = np.random.default_rng(0)
    rows = np.stack([rng.integers(0, g.units, count) for g in problem.structure.groups], axis=1)
    return rows, [
        {knob.name: float(rng.choice([1.0, rng.uniform(0.1, 1.0)])) for knob in problem.space.knobs} for _ in rows
    ]


def test_of_channels_they_are_exact(problem):
    problem = problem("[channels]")
    rows, choices = drawn(problem)
    names = [group.name for group in problem.structure.groups]
    many = problem.exact_metrics(rows, choices)
    for number, row in enumerate(rows.tolist()):
        cut_units = dict(zip(names, row, strict=True))
        one = vars(problem.costs(cut_units, choices=choices[number]))
        assert {name: many[name][number] for name in one} == one
    whole = vars(problem.structure.costs())
    for usual in (problem.exact_metrics(rows[:1] * 0), problem.exact_metrics(rows[:1] * 0, [{}])):
        assert {name: usual[name][0] for name in whole} == whole
    assert (many["params"] < problem.structure.costs().params).all()


def test_of_blocks_they_are_the_mean_over_which_ones_go(problem):
    problem = problem("[blocks]")
    (blocks,) = problem.structure.groups
    _, choices = drawn(problem, 3)
    many = problem.exact_metrics(np.array([[0], [1], [2]]), choices)
    for gone in range(3):
        each = [problem.costs({blocks.name: gone}, left, choices[gone]) for left in combinations(blocks.layers, gone)]
        for name in vars(each[0]):
            mean = sum(getattr(costs, name) for costs in each) / len(each)
            assert many[name][gone] == pytest.approx(mean, rel=0, abs=len(problem.space.knobs))  # rounded per layer
