"""Small nets with recurrent layers and attention; inputs are tokens (N, 7) or features (N, 7, 12)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Recurrent(nn.Module):
    """Embedding, a bidirectional LSTM of two layers, a GRU, a classifier on its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 10)
        self.lstm = nn.LSTM(10, 6, 2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(12, 5, batch_first=True)
        self.linear = nn.Linear(5, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        y, _ = self.lstm(self.embedding(tokens))
        return self.linear(self.gru(y)[1][-1])


class Projected(nn.Module):
    """An LSTM with a projection, and a plain RNN that starts from its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 10)
        self.lstm = nn.LSTM(10, 8, proj_size=6, batch_first=True)
        self.rnn = nn.RNN(10, 6, batch_first=True)
        self.linear = nn.Linear(6, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        _, (h, _) = self.lstm(x)
        return self.linear(self.rnn(x, h)[0].amax(1))


class Attention(nn.Module):
    """Heads by hand, separate projections, softmax of a product."""

    def __init__(self, width: int = 12, heads: int = 4, size: int = 3) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, size
        self.q, self.k, self.v = (nn.Linear(width, heads * size) for _ in range(3))
        self.o = nn.Linear(heads * size, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = (m(x).view(n, t, self.num_heads, self.head_dim).transpose(1, 2) for m in (self.q, self.k, self.v))
        p = torch.softmax(q @ k.transpose(-1, -2) * 3**-0.5, -1)
        return self.o((p @ v).transpose(1, 2).reshape(n, t, -1))


class PackedAttention(nn.Module):
    """One projection for query, key and value (timm's ViT)."""

    def __init__(self, width: int = 12, heads: int = 4) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(n, t, -1))


class Conv1D(nn.Module):
    """GPT-2's linear layer: a transposed weight, and its width in the code. Here both widths are the same number."""

    def __init__(self, read: int, made: int) -> None:
        super().__init__()
        self.nf, self.nx = made, read
        self.weight, self.bias = nn.Parameter(torch.randn(read, made)), nn.Parameter(torch.randn(made))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], self.nf)


class SplitAttention(nn.Module):
    """Query, key and value split by a width that stands in the module (GPT-2)."""

    def __init__(self) -> None:
        super().__init__()
        self.split_size, self.head_dim = 12, 3
        self.c_attn, self.c_proj = Conv1D(12, 36), Conv1D(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = (y.view(n, t, -1, self.head_dim).transpose(1, 2) for y in self.c_attn(x).split(self.split_size, 2))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.c_proj(y.transpose(1, 2).reshape(n, t, -1).contiguous())


class OneHead(nn.Module):
    """One head, scaled by a constant: entries of query and key go together, entries of the value by themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(12, 8), nn.Linear(12, 8), nn.Linear(12, 10)
        self.o = nn.Linear(10, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x), scale=0.3))


class GroupedQuery(nn.Module):
    """Two query heads for each key and value head, rotary embedding, no bias (Llama)."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(12, 24, False), nn.Linear(12, 12, False), nn.Linear(12, 12, False)
        self.o = nn.Linear(24, 12, False)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        angle = torch.arange(t)[:, None] / 100.0 ** (torch.arange(4) / 4)
        q, k, v = (m(x).view(n, t, -1, 4).transpose(1, 2) for m in (self.q, self.k, self.v))
        q, k = (y * angle.cos() + torch.cat([-y[..., 2:], y[..., :2]], -1) * angle.sin() for y in (q, k))
        k, v = (y[:, :, None].expand(n, y.shape[1], 2, t, 4).reshape(n, -1, t, 4) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(y.transpose(1, 2).reshape(n, t, -1))


class Encoder(nn.Module):
    """Token and position embedding, class token, pre-norm blocks, a gated feed-forward net."""

    def __init__(self, attention: type[nn.Module]) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(20, 12), nn.Parameter(torch.randn(1, 8, 12))
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(12), attention(), nn.LayerNorm(12)
        self.gate, self.up, self.down = nn.Linear(12, 16), nn.Linear(12, 16), nn.Linear(16, 12)
        self.last, self.head = nn.LayerNorm(12), nn.Linear(12, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        x = x + self.attention(self.norm1(x))
        y = self.norm2(x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return self.head(self.last(x)[:, 0])


class EncoderLayers(nn.Module):
    """torch's own encoder layers, whose attention computes the size of a head from its width."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 12)
        layer = nn.TransformerEncoderLayer(12, 4, 16, batch_first=True)
        self.layers, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(12, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.layers(self.embedding(tokens)).mean(1))


class DecoderLayers(nn.Module):
    """A decoder layer with a causal mask; time comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 12)
        self.layer, self.head = nn.TransformerDecoderLayer(12, 4, 16, norm_first=True), nn.Linear(12, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens).transpose(0, 1)
        mask = nn.Transformer.generate_square_subsequent_mask(len(x))
        return self.head(self.layer(x, x.flip(0), tgt_mask=mask)).transpose(0, 1)
