"""A small residual net, data that it learns in an instant, and a scorer that needs neither."""

from __future__ import annotations

import copy
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprune.plugin import Data, Group, Normalization, ScoreContext, Scorer, Split

_CLASSES = 4
_SHAPE = (3, 8, 8)
_SIZES = {"train": 96, "validation": 64, "test": 48}


class ToyNet(nn.Module):
    """Three groups of units: a residual stream of 8 channels, 6 inside its block, and 12 behind it.

    The classifier's outputs stay whole. Inputs are (N, 3, 8, 8), outputs (N, 4).
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(8)
        self.inner = nn.Conv2d(8, 6, 3, padding=1, bias=False)
        self.inner_bn = nn.BatchNorm2d(6)
        self.outer = nn.Conv2d(6, 8, 3, padding=1, bias=False)
        self.outer_bn = nn.BatchNorm2d(8)
        self.top = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False)
        self.top_bn = nn.BatchNorm2d(12)
        self.linear = nn.Linear(12, _CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 8, 8) to (N, 4)."""
        x = functional.relu(self.stem_bn(self.stem(x)))
        inner = functional.relu(self.inner_bn(self.inner(x)))
        x = functional.relu(self.outer_bn(self.outer(inner)) + x)
        x = functional.relu(self.top_bn(self.top(x)))
        return self.linear(x.mean((2, 3)))  # type: ignore[no-any-return]


def toy_data() -> Data:
    """Noisy images of four patterns, in [0, 1], with a normalisation; every sample is there once."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(_CLASSES, *_SHAPE, generator=generator)

    def split(length: int) -> Split:
        targets = torch.arange(length) % _CLASSES
        noise = torch.rand(length, *_SHAPE, generator=generator)
        return Split.of_tensors((0.4 * patterns[targets] + 0.6 * noise,), targets)

    return Data(
        train=split(_SIZES["train"]),
        validation=split(_SIZES["validation"]),
        test=split(_SIZES["test"]),
        classes=_CLASSES,
        normalization=Normalization(mean=(0.5, 0.45, 0.55), std=(0.2, 0.25, 0.3)),
        bounds=(0.0, 1.0),
    )


def toy_network() -> ToyNet:
    """A `ToyNet` that has learnt `toy_data`, normalised as the data tells, in ``eval()``."""
    return copy.deepcopy(_trained())


@cache
def _trained() -> ToyNet:
    data = toy_data()
    assert data.normalization is not None
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.normalization.mean, data.normalization.std))
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        network = ToyNet()
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
        for _ in range(8):
            for inputs, targets in data.train.batches(32):
                loss = functional.cross_entropy(network((inputs.first - mean) / std), targets)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    optimizer.zero_grad()
    return network.eval()


class ToyScorer(Scorer):
    """The first units of a group matter most."""

    name = "toy"

    def score(self, group: Group, ctx: ScoreContext) -> Tensor:  # noqa: ARG002 - looks at no weight
        """U, …, 2, 1."""
        return torch.arange(group.units, 0, -1.0)
