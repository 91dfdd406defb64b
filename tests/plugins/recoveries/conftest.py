"""A small net on real digits, and what recoveries get of the host."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from autoprune.plugin import Data, Normalization, PruneContext, Pruned, Split, Task
from autoprune_tasks.classification import Classification

MEAN, STD = 0.3, 0.35


class Net(nn.Module):
    """conv → bn → relu → flatten → dropout → head, on (N, 1, 8, 8)."""

    def __init__(self, *, norm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(8 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.bn(self.conv(x)).relu().flatten(1)))


class Normalized(nn.Module):
    """What the host wraps a network in."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x - MEAN) / STD)


def unused(*_: object) -> None:
    raise AssertionError("a recovery neither scores nor cuts")


@pytest.fixture(scope="session")
def data() -> Data:
    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / 16
    targets = torch.from_numpy(digits.target).long()
    train, validation, test = (Split.of_tensors(images[i::3], targets[i::3]) for i in range(3))
    return Data(train, validation, test, 10, Normalization((MEAN,), (STD,)), (0.0, 1.0))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def pruned(net: Net) -> Pruned:
    """The net, with which recoveries do as they like."""
    return Pruned(net)


@pytest.fixture
def make_context(net: Net, data: Data) -> Callable[..., PruneContext]:
    """A context with a seed, a task and a dense network."""

    def make(seed: int = 0, task: Task | None = None, dense: nn.Module | None = None) -> PruneContext:
        return PruneContext(
            device=torch.device("cpu"),
            seed=seed,
            data=data,
            task=task or Classification(),
            groups=(),
            dense=copy.deepcopy(net) if dense is None else dense,
            predictor=Normalized,
            **dict.fromkeys(("build", "start", "score", "select", "cut", "rows", "once"), unused),
        )

    return make


@pytest.fixture
def ctx(make_context: Callable[..., PruneContext]) -> PruneContext:
    return make_context()


@pytest.fixture
def unnormalized() -> Callable[[], Net]:
    """A net without batch norm."""
    return lambda: Net(norm=False).eval()
