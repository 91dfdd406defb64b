"""A small residual net on real digits, with its groups written out by hand."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from autoprune.plugin import Data, Group, Normalization, ScoreContext, Slice, Split
from autoprune_tasks.classification import Classification

MEAN, STD = 0.3, 0.35


class Net(nn.Module):
    """conv1 → bn1 → relu → conv2 (+ skip) → bn2 → relu → flatten → head, on (N, 1, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 5, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(5)
        self.conv2 = nn.Conv2d(5, 6, 3, stride=2, padding=1, bias=False)
        self.skip = nn.Conv2d(1, 6, 1, stride=2)
        self.bn2 = nn.BatchNorm2d(6)
        self.hidden = nn.Linear(96, 12)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y) + self.skip(x)).relu()
        return self.head(self.hidden(y.flatten(1)).relu())


class Normalized(nn.Module):
    """What the host wraps a network in."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x - MEAN) / STD)


def rows(units: int, each: int = 1) -> Tensor:
    return torch.arange(units * each).reshape(units, each)


GROUPS = {
    "conv1": Group(
        name="conv1",
        units=5,
        granularity="channel",
        layers=("conv1",),
        slices=(
            Slice("conv1.weight", 0, rows(5), "output"),
            Slice("conv1.bias", 0, rows(5), "vector"),
            *(Slice(f"bn1.{n}", 0, rows(5), "vector") for n in ("weight", "bias", "running_mean", "running_var")),
            Slice("conv2.weight", 1, rows(5), "input"),
        ),
    ),
    "conv2": Group(
        name="conv2",
        units=6,
        granularity="channel",
        layers=("conv2", "skip"),
        slices=(
            Slice("conv2.weight", 0, rows(6), "output"),
            Slice("skip.weight", 0, rows(6), "output"),
            Slice("skip.bias", 0, rows(6), "vector"),
            *(Slice(f"bn2.{n}", 0, rows(6), "vector") for n in ("weight", "bias", "running_mean", "running_var")),
            Slice("hidden.weight", 1, rows(6, 16), "input"),
        ),
    ),
    "hidden": Group(
        name="hidden",
        units=12,
        granularity="neuron",
        layers=("hidden",),
        slices=(
            Slice("hidden.weight", 0, rows(12), "output"),
            Slice("hidden.bias", 0, rows(12), "vector"),
            Slice("head.weight", 1, rows(12), "input"),
        ),
    ),
}


def make_net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    net = Net()
    for bn in (net.bn1, net.bn2):  # as training leaves them: no two alike
        nn.init.normal_(bn.weight, 0.5, 1.0)
        nn.init.normal_(bn.bias)
        nn.init.normal_(bn.running_mean)
        nn.init.uniform_(bn.running_var, 0.5, 2.0)
    return net.eval()


def make_data() -> Data:
    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / 16
    targets = torch.from_numpy(digits.target).long()
    train, validation, test = (Split.of_tensors((images[i::3],), targets[i::3]) for i in range(3))
    return Data(train, validation, test, 10, Normalization((MEAN,), (STD,)), (0.0, 1.0))


def make_context(net: nn.Module, data: Data, seed: int = 0) -> ScoreContext:
    return ScoreContext(
        device=torch.device("cpu"),
        seed=seed,
        data=data,
        task=Classification(),
        model=Normalized(net),
        network=net,
        groups=tuple(GROUPS.values()),
    )


@pytest.fixture(scope="session")
def data() -> Data:
    return make_data()


@pytest.fixture
def net() -> Net:
    return make_net()


@pytest.fixture
def ctx(net: Net, data: Data) -> ScoreContext:
    return make_context(net, data)


@pytest.fixture(params=sorted(GROUPS))
def group(request: pytest.FixtureRequest) -> Group:
    return GROUPS[request.param]


@pytest.fixture
def groups() -> dict[str, Group]:
    return GROUPS
