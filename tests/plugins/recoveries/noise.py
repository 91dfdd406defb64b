"""Data without a meaning, and how far networks are from a dense one on it."""

from __future__ import annotations

import torch
from torch import nn

from autoprune.plugin import Data, Split
from autoprune.testing import Bench


def data(shape: tuple[int, ...], classes: int) -> Data:
    """Normal inputs of that shape, and any classes."""
    random = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        return Split.of_tensors(
            torch.randn(count, *shape, generator=random), torch.randint(classes, (count,), generator=random)
        )

    return Data(split(256), split(64), split(64), classes)


def error(bench: Bench, network: nn.Module) -> float:
    """Of the outputs, relative to the dense network's variance, on other samples."""
    inputs = bench.data.test.fetch(torch.arange(64))[0].first
    with torch.no_grad():
        dense, made = bench.network(inputs), network(inputs)
    return float((made - dense).square().mean() / dense.var(0).mean())
