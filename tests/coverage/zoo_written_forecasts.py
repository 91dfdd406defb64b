"""Nets that forecast: temporal convolutions, explained parts of the past, chosen variables."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


class TemporalBlock(nn.Module):
    """Two dilated causal convolutions with normed weights, chomped, and a shortcut (TCN, arXiv:1803.01271)."""

    def __init__(self, i: int, o: int, dilation: int) -> None:
        super().__init__()
        self.chomp = 2 * dilation
        self.conv1 = weight_norm(nn.Conv1d(i, o, 3, padding=self.chomp, dilation=dilation))
        self.conv2 = weight_norm(nn.Conv1d(o, o, 3, padding=self.chomp, dilation=dilation))
        self.dropout, self.downsample = nn.Dropout(0.2), nn.Conv1d(i, o, 1) if i != o else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(F.relu(self.conv1(x)[:, :, : -self.chomp].contiguous()))
        y = self.dropout(F.relu(self.conv2(y)[:, :, : -self.chomp].contiguous()))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class TCN(nn.Module):
    """Temporal blocks; the last step decides."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(TemporalBlock(2, 12, 1), TemporalBlock(12, 16, 2), TemporalBlock(16, 16, 4))
        self.linear = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.network(x)[:, :, -1])


class NBeats(nn.Module):
    """Blocks that explain a part of the past and forecast it; the next see what is left (arXiv:1905.10437)."""

    def __init__(self, past: int = 12, ahead: int = 4) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(past, 24), nn.ReLU(), nn.Linear(24, 20), nn.ReLU()) for _ in range(3)
        )
        self.theta = nn.ModuleList(nn.Linear(20, past + ahead, bias=i == 0) for i in range(3))
        steps = torch.arange(past + ahead) / (past + ahead)
        self.register_buffer("basis", torch.stack([steps**p for p in range(3)]))
        self.trend = nn.Linear(20, 3)
        self.past = past

    def forward(self, x: Tensor) -> Tensor:
        forecast = x[:, -1:]
        for i, block in enumerate(self.blocks):
            hidden = block(x)
            made = self.trend(hidden) @ self.basis if i == 1 else self.theta[i](hidden)
            backcast, ahead = made[:, : self.past], made[:, self.past :]
            x, forecast = x - backcast, forecast + ahead
        return forecast


class GRN(nn.Module):
    """A gated residual network."""

    def __init__(self, i: int, hidden: int, o: int, context: int = 0) -> None:
        super().__init__()
        self.skip = nn.Linear(i, o) if i != o else None
        self.fc1, self.fc2, self.gate, self.norm = (
            nn.Linear(i, hidden),
            nn.Linear(hidden, hidden),
            nn.Linear(hidden, 2 * o),
            nn.LayerNorm(o),
        )
        self.context = nn.Linear(context, hidden, bias=False) if context else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        y = self.fc1(x)
        if self.context is not None and context is not None:
            y = y + self.context(context).unsqueeze(1)
        y = F.glu(self.gate(self.fc2(F.elu(y))), dim=-1)
        return self.norm(y + (x if self.skip is None else self.skip(x)))


class Fusion(nn.Module):
    """Variables chosen step by step, an LSTM, attention with one value for all heads (TFT, arXiv:1912.09363)."""

    def __init__(self, variables: int = 4, width: int = 12, heads: int = 2) -> None:
        super().__init__()
        self.variables, self.heads, self.key = variables, heads, width // heads
        self.embeddings = nn.ModuleList(nn.Linear(1, width) for _ in range(variables))
        self.static = GRN(3, width, width)
        self.select = GRN(variables * width, 16, variables, width)
        self.single = nn.ModuleList(GRN(width, width, width) for _ in range(variables))
        self.lstm, self.gate, self.norm = (
            nn.LSTM(width, width, batch_first=True),
            nn.Linear(width, 2 * width),
            nn.LayerNorm(width),
        )
        self.enrich = GRN(width, width, width, width)
        self.q, self.k, self.v = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, self.key)
        self.out, self.last, self.quantiles = nn.Linear(self.key, width), GRN(width, 16, width), nn.Linear(width, 3)

    def forward(self, x: Tensor, static: Tensor) -> Tensor:
        context = self.static(static)
        each = [layer(x[..., i : i + 1]) for i, layer in enumerate(self.embeddings)]
        weights = torch.softmax(self.select(torch.cat(each, -1), context), -1).unsqueeze(2)
        each = torch.stack([layer(y) for layer, y in zip(self.single, each, strict=True)], dim=-1)
        y = (each * weights).sum(-1)
        state = context.unsqueeze(0)
        y = self.norm(y + F.glu(self.gate(self.lstm(y, (state, state))[0]), -1))
        y = self.enrich(y, context)
        n, t, _ = y.shape
        q, k = (m(y).view(n, t, self.heads, self.key).transpose(1, 2) for m in (self.q, self.k))
        mask = torch.triu(torch.ones(t, t, dtype=torch.bool), 1)
        attention = (q @ k.transpose(2, 3) / self.key**0.5).masked_fill(mask, float("-inf")).softmax(-1)
        seen = (attention @ self.v(y).unsqueeze(1)).mean(1)
        return self.quantiles(self.last(y + self.out(seen)))
