"""The residual nets for CIFAR-10 of He et al., *Deep Residual Learning for Image Recognition*, arXiv:1512.03385.

Shortcuts are option A: where a stage halves the image and doubles the channels, the shortcut skips every other pixel
and pads zero channels, without any parameter.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.padding = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride > 1:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return functional.relu(y + x)


class CifarResNet(nn.Module):
    """Three stages of 16, 32 and 64 channels on 32x32, 16x16 and 8x8 pixels."""

    def __init__(self, blocks: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        self.layer1 = self._stage(blocks, _WIDTHS[0], _WIDTHS[0], stride=1)
        self.layer2 = self._stage(blocks, _WIDTHS[0], _WIDTHS[1], stride=2)
        self.layer3 = self._stage(blocks, _WIDTHS[1], _WIDTHS[2], stride=2)
        self.linear = nn.Linear(_WIDTHS[2], classes)

    @staticmethod
    def _stage(blocks: int, inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
        first = Block(inputs, outputs, stride)
        return nn.Sequential(first, *(Block(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 32, 32) to (N, classes)."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.mean(x, (2, 3)))


def resnet20(classes: int = 10) -> CifarResNet:
    """3 blocks a stage: 269,722 parameters, 40.9 M multiply-accumulates."""
    return CifarResNet(3, classes)


def resnet56(classes: int = 10) -> CifarResNet:
    """9 blocks a stage: 853,018 parameters, 125.5 M multiply-accumulates."""
    return CifarResNet(9, classes)
