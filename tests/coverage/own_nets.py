"""Small nets that stand for architectures of the zoo where its packages are not installed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..autoprune.structure import nets


class WindowAttention(nn.Module):
    """Attention within windows, a table of relative positions with a column for every head (Swin, arXiv:2103.14030)."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.window = 4, 4
        self.stem, self.norm = nn.Conv2d(3, 24, 2, 2), nn.LayerNorm(24)
        self.qkv, self.proj = nn.Linear(24, 72), nn.Linear(24, 24)
        self.table = nn.Parameter(torch.randn(49, 4))
        places = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")).flatten(1)
        offsets = places[:, :, None] - places[:, None] + 3
        self.register_buffer("index", (offsets[0] * 7 + offsets[1]).flatten())
        self.last, self.head = nn.LayerNorm(24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        n, side, _, width = x.shape
        y = self.norm(x).view(n, side // self.window, self.window, side // self.window, self.window, width)
        y = y.transpose(2, 3).reshape(-1, self.window**2, width)
        q, k, v = self.qkv(y).view(len(y), self.window**2, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.table[self.index].view(self.window**2, self.window**2, -1).permute(2, 0, 1)
        p = torch.softmax(q @ k.transpose(-2, -1) * 6**-0.5 + bias[None], -1)
        y = self.proj((p @ v).transpose(1, 2).flatten(2))
        y = y.view(n, side // self.window, side // self.window, self.window, self.window, width)
        return self.head(self.last(x + y.transpose(2, 3).reshape(x.shape)).mean((1, 2)))


class SelectiveKernels(nn.Module):
    """Two branches stacked, a softmax over them for every channel (SKNet, arXiv:1903.06586)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nets.cbr(3, 12), nets.cbr(12, 16), nets.cbr(12, 16, 5)
        self.reduce, self.select = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 32, 1)
        self.head = nets.Head(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.stack([self.a(x), self.b(x)], 1)
        chosen = self.select(F.relu(self.reduce(x.sum(1).mean((2, 3), keepdim=True))))
        chosen = torch.softmax(chosen.view(len(x), 2, -1, 1, 1), 1)
        return self.head((x * chosen).sum(1))


class StandardisedConv(nn.Conv2d):
    """Its weights have mean 0 and variance 1 over what each output reads (arXiv:1903.10520)."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, len(self.weight), -1)
        weight = F.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-5).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Standardised(nn.Module):
    """Standardised weights and group norms (BiT, arXiv:1912.11370)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = StandardisedConv(3, 16, 3, padding=1), nn.GroupNorm(4, 16)
        self.a, self.b = StandardisedConv(16, 12, 3, padding=1), StandardisedConv(12, 16, 1)
        self.head = nets.Head(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.b(F.relu(self.a(F.relu(self.norm(x))))))


class EinsumAttention(nn.Module):
    """Attention in einsum, heads that are mixed before and after the softmax (CaiT, arXiv:2103.17239)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(50, 24), nn.LayerNorm(24)
        self.q, self.k, self.v, self.o = (nn.Linear(24, 24) for _ in range(4))
        self.before, self.after = nn.Linear(4, 4), nn.Linear(4, 4)
        self.head = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)
        q, k, v = (m(self.norm(x)).unflatten(-1, (-1, 6)) for m in (self.q, self.k, self.v))
        scores = self.before(torch.einsum("...qhd,...khd->...qkh", q, k) * 6**-0.5)
        scores = self.after(torch.softmax(scores, -2))
        return self.head((x + self.o(torch.einsum("...qkh,...khd->...qhd", scores, v).flatten(-2))).mean(1))
