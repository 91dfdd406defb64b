"""Architectures to measure the structure engine on, written out so that nothing has to be installed for them.

Weights are random; sizes are those of the papers. Shortcuts that change the width are projections everywhere:
Torch-Pruning cannot cut the zero-padded ones of He et al. for CIFAR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv_norm(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Convolutions of those kernel sizes beside a shortcut (ResNet, arXiv:1512.03385)."""

    def __init__(self, inputs: int, width: int, outputs: int, *, kernels: tuple[int, ...], stride: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        read = inputs
        for position, kernel in enumerate(kernels):
            made = outputs if position == len(kernels) - 1 else width
            # The first 3 × 3 convolution is the one that strides.
            strides = stride if kernel == 3 and 3 not in kernels[:position] else 1
            self.layers.append(conv_norm(read, made, kernel, stride=strides))
            read = made
        self.shortcut = conv_norm(inputs, outputs, 1, stride=stride) if stride > 1 or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        y = x
        for position, layer in enumerate(self.layers):
            y = layer(functional.relu(y) if position else y)
        return functional.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nn.Module):
    """Stages of residual blocks."""

    def __init__(self, stem: nn.Module, width: int, stages: list[tuple[int, int, int, int]], classes: int) -> None:
        """Each stage: blocks, inner width, outer width, stride of its first block."""
        super().__init__()
        self.stem = stem
        kernels = (3, 3) if stages[0][1] == stages[0][2] else (1, 3, 1)
        blocks = []
        for count, inner, outer, stride in stages:
            for number in range(count):
                blocks.append(Block(width, inner, outer, kernels=kernels, stride=1 if number else stride))
                width = outer
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, classes)."""
        return self.linear(self.blocks(self.stem(x)).mean((2, 3)))


def cifar_resnet(depth: int) -> ResNet:
    """The residual nets for CIFAR: 6 n + 2 layers."""
    count = (depth - 2) // 6
    stem = nn.Sequential(conv_norm(3, 16, 3), nn.ReLU())
    return ResNet(stem, 16, [(count, 16, 16, 1), (count, 32, 32, 2), (count, 64, 64, 2)], 10)


def resnet50() -> ResNet:
    """25.6 M parameters."""
    stem = nn.Sequential(conv_norm(3, 64, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    return ResNet(stem, 64, [(3, 64, 256, 1), (4, 128, 512, 2), (6, 256, 1024, 2), (3, 512, 2048, 2)], 1000)


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, project (MobileNetV2, arXiv:1801.04381)."""

    def __init__(self, inputs: int, outputs: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        width = inputs * expansion
        expand = [conv_norm(inputs, width, 1), nn.ReLU6()] if expansion > 1 else []
        depthwise = conv_norm(width, width, 3, stride=stride, groups=width)
        self.layers = nn.Sequential(*expand, depthwise, nn.ReLU6(), conv_norm(width, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        return x + self.layers(x) if self.residual else self.layers(x)


def mobilenet_v2() -> nn.Sequential:
    """3.5 M parameters."""
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    width, layers = 32, [conv_norm(3, 32, 3, stride=2), nn.ReLU6()]
    for expansion, outputs, count, stride in stages:
        for number in range(count):
            layers.append(InvertedResidual(width, outputs, expansion=expansion, stride=1 if number else stride))
            width = outputs
    head = [conv_norm(width, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2)]
    return nn.Sequential(*layers, *head, nn.Linear(1280, 1000))


class Attention(nn.Module):
    """Self-attention; queries, keys and values from one layer or from three."""

    def __init__(self, width: int, heads: int, *, packed: bool) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, width // heads
        self.qkv = nn.Linear(width, 3 * width) if packed else None
        if not packed:
            self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, C) to (N, T, C)."""
        n, t, _ = x.shape
        if self.qkv is not None:
            q, k, v = self.qkv(x).reshape(n, t, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            layers = (self.query, self.key, self.value)
            q, k, v = (layer(x).view(n, t, self.num_heads, self.head_dim).transpose(1, 2) for layer in layers)
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(n, t, self.num_heads * self.head_dim))


class TransformerBlock(nn.Module):
    """Attention and feed-forward net, norms before (ViT) or after (BERT)."""

    def __init__(self, width: int, heads: int, *, norm_first: bool, packed: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, packed=packed)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm_first = norm_first

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, C) to (N, T, C)."""
        if self.norm_first:
            x = x + self.attention(self.norm1(x))
            return x + self.down(functional.gelu(self.up(self.norm2(x))))
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.down(functional.gelu(self.up(x))))


class VisionTransformer(nn.Module):
    """ViT-S/16 (arXiv:2010.11929, arXiv:2012.12877): 22 M parameters."""

    def __init__(self, width: int = 384, depth: int = 12, heads: int = 6) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 197, width))
        self.blocks = nn.Sequential(
            *(TransformerBlock(width, heads, norm_first=True, packed=True) for _ in range(depth))
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 224, 224) to (N, 1000)."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class Bert(nn.Module):
    """A BERT-base encoder (arXiv:1810.04805) with a classifier on its first token: 109 M parameters."""

    def __init__(self, width: int = 768, depth: int = 12, heads: int = 12) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(30522, width), nn.Embedding(512, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            TransformerBlock(width, heads, norm_first=False, packed=False) for _ in range(depth)
        )
        self.pooler, self.head = nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T) to (N, 2)."""
        x = self.norm(self.words(tokens) + self.positions(torch.arange(tokens.shape[1])))
        for layer in self.layers:
            x = layer(x)
        return self.head(torch.tanh(self.pooler(x[:, 0])))


@dataclass(frozen=True)
class Bench:
    """A net to measure, with the shape of one sample."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    tokens: bool = False

    def example(self) -> Tensor:
        """Two samples."""
        generator = torch.Generator().manual_seed(0)
        if self.tokens:
            return torch.randint(30522, (2, *self.shape), generator=generator)
        return torch.rand(2, *self.shape, generator=generator)


NETS = {
    "resnet20": Bench(partial(cifar_resnet, 20), (3, 32, 32)),
    "resnet56": Bench(partial(cifar_resnet, 56), (3, 32, 32)),
    "resnet50": Bench(resnet50, (3, 64, 64)),
    "mobilenetv2": Bench(mobilenet_v2, (3, 64, 64)),
    "vit-s": Bench(VisionTransformer, (3, 224, 224)),
    "bert-base": Bench(Bert, (16,), tokens=True),
}
DEPTHS = {f"depth-{depth}": Bench(partial(cifar_resnet, depth), (3, 32, 32)) for depth in (8, 20, 56, 110, 200)}
