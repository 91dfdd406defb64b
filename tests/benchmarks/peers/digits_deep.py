"""A deep, narrow residual net on the digits: some fifty groups on real data, trained in about a minute.

Blocks as in He et al., *Deep Residual Learning for Image Recognition*, arXiv:1512.03385: bottlenecks, each with two
groups of its own, on streams that the blocks of a stage share.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprune.plugin import SourceContext
from autoprune.study.resolution import cache_folder
from autoprune_sources import Digits
from tests.benchmarks.trained import trained

_STAGES = ((16, 8, 1), (24, 8, 2), (32, 8, 2))
"""Channels, blocks and the stride of the first of them."""
_EPOCHS = 30


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution beside the stream."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.mix = nn.Sequential(nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self.expand = nn.Sequential(nn.Conv2d(outputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride)."""
        y = functional.relu(self.mix(functional.relu(self.reduce(x))))
        return functional.relu(self.expand(y) + self.shortcut(x))


class DeepNet(nn.Module):
    """24 bottlenecks on 8x8, 4x4 and 2x2 pixels."""

    def __init__(self) -> None:
        super().__init__()
        inputs = _STAGES[0][0]
        self.stem = nn.Conv2d(1, inputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(inputs)
        blocks = []
        for outputs, count, stride in _STAGES:
            for index in range(count):
                blocks.append(Bottleneck(inputs, outputs, stride if index == 0 else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 8, 8) to (N, 10)."""
        x = self.blocks(functional.relu(self.norm(self.stem(x))))
        return self.linear(x.mean((2, 3)))


def digits_deep() -> DeepNet:
    """The trained net."""
    return trained("peers-digits-deep", DeepNet, _train)


def _train(network: DeepNet) -> None:
    split = Digits().load(SourceContext(folder=Path(), cache=cache_folder(), seed=0)).train
    inputs, targets = split.fetch(torch.arange(len(split)))
    images = inputs.first
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    steps = _EPOCHS * -(-len(targets) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.005, total_steps=steps)
    network.train()
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(targets)).split(32):
            shift = torch.randint(-1, 2, (2,)).tolist()
            loss = functional.cross_entropy(network(images[rows].roll(shift, (2, 3))), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
