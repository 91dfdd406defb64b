"""Nets for speech and speakers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RelativeAttention(nn.Module):
    """Attention that adds what the query says of the distance (Transformer-XL, arXiv:1901.02860)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads, self.d_head = width, heads, width // heads
        self.query_proj, self.key_proj, self.value_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        self.pos_proj = nn.Linear(width, width, bias=False)
        self.u_bias, self.v_bias = (nn.Parameter(torch.randn(heads, self.d_head) * 0.3) for _ in range(2))

    def forward(self, x: Tensor, pos: Tensor) -> Tensor:
        n = x.size(0)
        q = self.query_proj(x).view(n, -1, self.heads, self.d_head)
        k = self.key_proj(x).view(n, -1, self.heads, self.d_head).permute(0, 2, 1, 3)
        v = self.value_proj(x).view(n, -1, self.heads, self.d_head).permute(0, 2, 1, 3)
        p = self.pos_proj(pos).view(n, -1, self.heads, self.d_head)
        content = torch.matmul((q + self.u_bias).transpose(1, 2), k.transpose(2, 3))
        position = torch.matmul((q + self.v_bias).transpose(1, 2), p.permute(0, 2, 3, 1))
        attn = F.softmax((content + self._shift(position)) / self.width**0.5, -1)
        return self.out_proj(torch.matmul(attn, v).transpose(1, 2).contiguous().view(n, -1, self.width))

    def _shift(self, score: Tensor) -> Tensor:
        n, heads, one, two = score.size()
        padded = torch.cat([score.new_zeros(n, heads, one, 1), score], dim=-1)
        return padded.view(n, heads, two + 1, one)[:, :, 1:].view_as(score)


class ConformerBlock(nn.Module):
    """Half feed-forward, attention, a gated convolution, half feed-forward (arXiv:2005.08100)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ff1, self.ff2 = (
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 40), nn.SiLU(), nn.Dropout(0.1), nn.Linear(40, width))
            for _ in range(2)
        )
        self.norm1, self.attention = nn.LayerNorm(width), RelativeAttention(width, heads)
        self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.conv = nn.Sequential(
            nn.Conv1d(width, 2 * width, 1), nn.GLU(dim=1),
            nn.Conv1d(width, width, 5, padding=2, groups=width, bias=False), nn.BatchNorm1d(width), nn.SiLU(),
            nn.Conv1d(width, width, 1), nn.Dropout(0.1),
        )  # fmt: skip

    def forward(self, x: Tensor, pos: Tensor) -> Tensor:
        x = x + 0.5 * self.ff1(x)
        x = x + self.attention(self.norm1(x), pos)
        x = x + self.conv(self.norm2(x).transpose(1, 2)).transpose(1, 2)
        return self.norm3(x + 0.5 * self.ff2(x))


class Conformer(nn.Module):
    """Convolutions that take fewer steps, conformer blocks, characters' log probabilities."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.subsample = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 12, 3, 2), nn.ReLU())
        self.proj, self.fc = nn.Linear(12 * 4, width), nn.Linear(width, 11, bias=False)
        self.layers = nn.ModuleList(ConformerBlock(width, 4) for _ in range(2))
        self.register_buffer("pe", torch.randn(50, width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.subsample(x.unsqueeze(1))
        n, channels, steps, mels = x.size()
        x = self.proj(x.permute(0, 2, 1, 3).contiguous().view(n, steps, channels * mels))
        pos = self.pe[:steps].unsqueeze(0).repeat(n, 1, 1)
        for layer in self.layers:
            x = layer(x, pos)
        return F.log_softmax(self.fc(x), dim=-1)


class XVector(nn.Module):
    """Dilated convolutions over time, mean and deviation, an embedding (Snyder et al., ICASSP 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.tdnn = nn.Sequential(
            *(
                layer
                for i, o, k, d in ((12, 20, 5, 1), (20, 20, 3, 2), (20, 24, 3, 3), (24, 32, 1, 1))
                for layer in (nn.Conv1d(i, o, k, dilation=d), nn.ReLU(), nn.BatchNorm1d(o))
            )
        )
        self.segment6, self.bn6, self.segment7 = nn.Linear(64, 24), nn.BatchNorm1d(24), nn.Linear(24, 20)
        self.output = nn.Linear(20, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.tdnn(x)
        stats = torch.cat((torch.mean(x, dim=2), torch.std(x, dim=2)), dim=1)
        embedding = self.segment6(stats)
        return self.output(F.relu(self.segment7(F.relu(self.bn6(embedding))))), embedding


class SERes2Block(nn.Module):
    """Chunks of channels that see each other one after the other, then a gate on all (ECAPA-TDNN, 2005.07143)."""

    def __init__(self, width: int, scale: int, dilation: int) -> None:
        super().__init__()
        self.scale, part = scale, width // scale
        self.tdnn1, self.bn1 = nn.Conv1d(width, width, 1), nn.BatchNorm1d(width)
        self.convs = nn.ModuleList(
            nn.Conv1d(part, part, 3, padding=dilation, dilation=dilation) for _ in range(scale - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(part) for _ in range(scale - 1))
        self.tdnn2, self.bn2 = nn.Conv1d(width, width, 1), nn.BatchNorm1d(width)
        self.se1, self.se2 = nn.Conv1d(width, 8, 1), nn.Conv1d(8, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        residual = x
        parts = torch.chunk(self.bn1(F.relu(self.tdnn1(x))), self.scale, dim=1)
        y = [parts[0]]
        for i in range(1, self.scale):
            read = parts[i] if i == 1 else parts[i] + y[-1]
            y.append(self.bns[i - 1](F.relu(self.convs[i - 1](read))))
        x = self.bn2(F.relu(self.tdnn2(torch.cat(y, dim=1))))
        gate = torch.sigmoid(self.se2(F.relu(self.se1(x.mean(dim=2, keepdim=True)))))
        return x * gate + residual


class Ecapa(nn.Module):
    """Two blocks, both read by the next layer; attention weighs the steps of every channel."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv1d(12, width, 5, padding=2), nn.BatchNorm1d(width)
        self.blocks = nn.ModuleList(SERes2Block(width, 4, d) for d in (2, 3))
        self.mfa = nn.Conv1d(2 * width, 24, 1)
        self.attn = nn.Sequential(nn.Conv1d(72, 12, 1), nn.ReLU(), nn.Tanh(), nn.Conv1d(12, 24, 1), nn.Softmax(dim=2))
        self.bn_stats, self.fc = nn.BatchNorm1d(48), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        x, seen = self.bn(F.relu(self.stem(x))), []
        for block in self.blocks:
            x = block(x)
            seen.append(x)
        x = F.relu(self.mfa(torch.cat(seen, dim=1)))
        t = x.size(-1)
        mean = x.mean(dim=2, keepdim=True).repeat(1, 1, t)
        deviation = torch.sqrt(torch.var(x, dim=2, keepdim=True).clamp(min=1e-4)).repeat(1, 1, t)
        w = self.attn(torch.cat((x, mean, deviation), dim=1))
        mu = torch.sum(x * w, dim=2)
        sg = torch.sqrt((torch.sum((x**2) * w, dim=2) - mu**2).clamp(min=1e-4))
        return self.fc(self.bn_stats(torch.cat((mu, sg), 1)))


class DeepSpeech(nn.Module):
    """Convolutions over spectrograms, recurrent nets whose directions are summed (Deep Speech 2, 1512.02595)."""

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 8, (5, 3), (2, 1), (2, 1)), nn.BatchNorm2d(8), nn.Hardtanh(0, 20, inplace=True),
            nn.Conv2d(8, 8, (5, 3), (2, 1), (2, 1)), nn.BatchNorm2d(8), nn.Hardtanh(0, 20, inplace=True),
        )  # fmt: skip
        self.rnns = nn.ModuleList(nn.GRU(i, hidden, bidirectional=True) for i in (8 * 4, hidden))
        self.norm, self.fc_norm, self.fc = (
            nn.BatchNorm1d(hidden),
            nn.BatchNorm1d(hidden),
            nn.Linear(hidden, 9, bias=False),
        )

    @staticmethod
    def _batched(layer: nn.Module, x: Tensor) -> Tensor:
        t, n = x.size(0), x.size(1)
        return layer(x.reshape(t * n, -1)).view(t, n, -1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x.unsqueeze(1))
        sizes = x.size()
        x = x.view(sizes[0], sizes[1] * sizes[2], sizes[3]).transpose(1, 2).transpose(0, 1).contiguous()
        for i, rnn in enumerate(self.rnns):
            x = self._batched(self.norm, x) if i else x
            x, _ = rnn(x)
            x = x.view(x.size(0), x.size(1), 2, -1).sum(2).view(x.size(0), x.size(1), -1)
        x = self._batched(nn.Sequential(self.fc_norm, self.fc), x)
        return x.transpose(0, 1).log_softmax(-1)
