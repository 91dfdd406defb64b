"""A small net on patterns that it can learn, a group written out by hand, and a pruning session without the engine."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from autoprune.plugin import Candidate, Data, Group, PruneContext, Pruned, Slice, Split
from autoprune_tasks.classification import Classification

UNITS, PIXELS, CLASSES = 8, 16, 4


class Net(nn.Module):
    """conv → bn → relu → head, on (N, 1, 4, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, UNITS, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(UNITS)
        self.head = nn.Linear(UNITS * PIXELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bn(self.conv(x)).relu().flatten(1))


def rows(count: int) -> Tensor:
    return torch.arange(count)[:, None]


GROUP = Group(
    name="conv",
    units=UNITS,
    granularity="channel",
    layers=("conv",),
    slices=(
        Slice("conv.weight", 0, rows(UNITS), "output"),
        *(Slice(f"bn.{n}", 0, rows(UNITS), "vector") for n in ("weight", "bias", "running_mean", "running_var")),
        Slice("head.weight", 1, torch.arange(UNITS * PIXELS).reshape(UNITS, PIXELS), "input"),
    ),
)


def cut_conv(net: nn.Module, kept: Tensor) -> nn.Module:
    """What the structure engine does, by hand; ``kept`` in the numbering of ``net``."""
    small = copy.deepcopy(net)
    small.conv.weight = nn.Parameter(net.conv.weight[kept].detach().clone())
    for name in ("weight", "bias"):
        setattr(small.bn, name, nn.Parameter(getattr(net.bn, name)[kept].detach().clone()))
    small.bn.running_mean = net.bn.running_mean[kept].clone()
    small.bn.running_var = net.bn.running_var[kept].clone()
    columns = net.head.weight.detach().reshape(CLASSES, -1, PIXELS)[:, kept].flatten(1)
    small.head.weight = nn.Parameter(columns.clone())
    return small.eval()


def magnitudes(net: nn.Module) -> Tensor:
    return net.conv.weight.detach().abs().flatten(1).mean(1)


@dataclass
class Session:
    """What the host does for a strategy, for the one group; it notes what was asked of it."""

    dense: Net
    data: Data
    rank: Callable[[nn.Module], Tensor] = magnitudes
    """Current network to the importance of the units that it has."""
    build: Callable[[], nn.Module] = Net
    made: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """What was made once, by key."""
    left: list[int] = field(default_factory=list)
    """Units left after each cut."""
    trained: list[int] = field(default_factory=list)
    """Units of the network each time that one was wrapped to train it."""

    def context(self, seed: int = 0) -> PruneContext:
        return PruneContext(
            device=torch.device("cpu"),
            seed=seed,
            data=self.data,
            task=Classification(),
            groups=(GROUP,),
            dense=self.dense,
            build=self.build,
            start=lambda: Pruned(lambda: copy.deepcopy(self.dense)),
            score=self._score,
            select=lambda scores, cut: {
                "conv": scores["conv"].argsort(descending=True, stable=True)[: UNITS - cut["conv"]].sort().values
            },
            cut=self._cut,
            rows=lambda pruned, layer: pruned.kept[layer],
            once=self._once,
            predictor=self._predictor,
        )

    def _score(self, pruned: Pruned) -> dict[str, Tensor]:
        scores = torch.full((UNITS,), -torch.inf)
        scores[pruned.kept.get("conv", torch.arange(UNITS))] = self.rank(pruned.network)
        return {"conv": scores}

    def _cut(self, pruned: Pruned, kept: Mapping[str, Tensor]) -> Pruned:
        before = pruned.kept.get("conv", torch.arange(UNITS)).tolist()
        self.left.append(len(kept["conv"]))
        return Pruned(cut_conv(pruned.network, torch.tensor([before.index(u) for u in kept["conv"].tolist()])), kept)

    def _once(self, key: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        if key not in self.made:
            with torch.random.fork_rng([]):
                torch.manual_seed(11)  # of the study
                self.made[key] = make()
        return self.made[key]

    def _predictor(self, network: nn.Module) -> nn.Module:
        self.trained.append(len(network.conv.weight))
        return network


def cutting(count: int) -> Candidate:
    return Candidate(ratios={"conv": count / UNITS}, cut_units={"conv": count})


@pytest.fixture(name="cutting")
def _cutting() -> Callable[[int], Candidate]:
    """Units that go, to the candidate."""
    return cutting


@pytest.fixture
def group() -> Group:
    return GROUP


@pytest.fixture(scope="session")
def data() -> Data:
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(CLASSES, 1, 4, 4, generator=generator)

    def split(length: int) -> Split:
        targets = torch.arange(length) % CLASSES
        noise = torch.rand(length, 1, 4, 4, generator=generator)
        return Split.of_tensors(patterns[targets] + 0.3 * noise, targets)

    return Data(split(96), split(64), split(64), CLASSES)


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def session(net: Net, data: Data) -> Session:
    return Session(net, data)


@pytest.fixture
def ctx(session: Session) -> PruneContext:
    return session.context()
