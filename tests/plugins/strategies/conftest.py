"""A small net on real digits, one group written out by hand, and the cut of it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from autoprune.plugin import Data, Group, Normalization, PruneContext, Slice, Split

MEAN, STD = 0.3, 0.35
UNITS = 8

GROUP = Group(
    name="conv",
    units=UNITS,
    granularity="channel",
    layers=("conv",),
    slices=(
        Slice("conv.weight", 0, torch.arange(UNITS)[:, None], "output"),
        *(Slice(f"bn.{n}", 0, torch.arange(UNITS)[:, None], "vector") for n in ("weight", "bias")),
        *(Slice(f"bn.{n}", 0, torch.arange(UNITS)[:, None], "vector") for n in ("running_mean", "running_var")),
        Slice("head.weight", 1, torch.arange(UNITS * 16).reshape(UNITS, 16), "input"),
    ),
)


class Net(nn.Module):
    """conv → bn → relu → flatten → dropout → head, on (N, 1, 8, 8)."""

    def __init__(self, *, norm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, UNITS, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(UNITS) if norm else nn.Identity()
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(UNITS * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.bn(self.conv(x)).relu().flatten(1)))


class Normalized(nn.Module):
    """What the host wraps a network in."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x - MEAN) / STD)


def cut_conv(net: Net, kept: Tensor) -> Net:
    """What the structure engine does, by hand."""
    small = copy.deepcopy(net)
    small.conv.weight = nn.Parameter(net.conv.weight[kept].detach().clone())
    for name in ("weight", "bias"):
        setattr(small.bn, name, nn.Parameter(getattr(net.bn, name)[kept].detach().clone()))
    small.bn.running_mean = net.bn.running_mean[kept].clone()
    small.bn.running_var = net.bn.running_var[kept].clone()
    columns = torch.arange(UNITS * 16).reshape(UNITS, 16)[kept].flatten()
    small.head.weight = nn.Parameter(net.head.weight[:, columns].detach().clone())
    return small.eval()


def best(scores: Tensor, count: int) -> Tensor:
    """What the host does: of equal scores the first."""
    return scores.argsort(descending=True, stable=True)[:count].sort().values


@pytest.fixture(scope="session")
def data() -> Data:
    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / 16
    targets = torch.from_numpy(digits.target).long()
    train, validation, test = (Split.of_tensors((images[i::3],), targets[i::3]) for i in range(3))
    return Data(train, validation, test, 10, Normalization((MEAN,), (STD,)), (0.0, 1.0))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def make_context(net: Net, data: Data) -> Callable[..., PruneContext]:
    """A context whose scores are the given ones and which cuts `net`."""

    def make(scores: list[float] | None = None, seed: int = 0) -> PruneContext:
        return PruneContext(
            device=torch.device("cpu"),
            seed=seed,
            data=data,
            groups=(GROUP,),
            scores=lambda: {"conv": torch.tensor(scores or [float(u) for u in range(UNITS)])},
            select=lambda scores, cut: {"conv": best(scores["conv"], UNITS - cut["conv"])},
            cut=lambda kept: cut_conv(net, kept["conv"]),
            predictor=Normalized,
        )

    return make


@pytest.fixture
def ctx(make_context: Callable[..., PruneContext]) -> PruneContext:
    return make_context()


@pytest.fixture
def unnormalized() -> Callable[[], Net]:
    """A net without batch norm."""
    return lambda: Net(norm=False).eval()
