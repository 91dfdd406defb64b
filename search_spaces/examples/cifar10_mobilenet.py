"""A small net of inverted residual blocks for 32x32 images.

Blocks as in Sandler et al., *MobileNetV2: Inverted Residuals and Linear Bottlenecks*, arXiv:1801.04381: a 1x1
convolution expands the channels, a depthwise one mixes the pixels of each, a linear 1x1 one projects them back. A
depthwise channel cannot go without the channel that it reads, so both are one unit.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

_STEM, _HEAD = 16, 256
_EXPANSION = 4
_STAGES = ((24, 2, 1), (48, 3, 2), (96, 2, 2))
"""Channels, blocks and the stride of the first of them."""


class ConvNorm(nn.Module):
    """Convolution, batch norm and, unless linear, ReLU6."""

    def __init__(
        self, inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride)."""
        x = self.norm(self.conv(x))
        return x if self.linear else functional.relu6(x)


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, project; with a shortcut where input and output have one shape."""

    def __init__(self, inputs: int, outputs: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = expansion * inputs
        self.expand = ConvNorm(inputs, hidden, 1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(hidden, hidden, 3, stride=stride, groups=hidden)
        self.project = ConvNorm(hidden, outputs, 1, linear=True)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride)."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


class MobileNet(nn.Module):
    """A stem on 32x32 pixels, a block that halves them, stages on 16x16, 8x8 and 4x4 pixels, and a wide head."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = ConvNorm(3, _STEM, 3)
        blocks = [InvertedResidual(_STEM, _STEM, expansion=1, stride=2)]
        inputs = _STEM
        for outputs, count, stride in _STAGES:
            for index in range(count):
                step = stride if index == 0 else 1
                blocks.append(InvertedResidual(inputs, outputs, expansion=_EXPANSION, stride=step))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(inputs, _HEAD, 1)
        self.linear = nn.Linear(_HEAD, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 32, 32) to (N, classes)."""
        x = self.head(self.blocks(self.stem(x)))
        return self.linear(x.mean((2, 3)))


def mobilenet(classes: int = 10) -> MobileNet:
    """8 blocks: 197,482 parameters, 8.8 M multiply-accumulates."""
    return MobileNet(classes)
