"""Steps of random nets on sequences (N, T, C), tokens (N, T) and vectors (N, C)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .random_program import VOCABULARY, Form, Kind, Step, step


@step
class Embed(Step):
    out: int

    def make(self, m: Any, form: Form) -> None:
        m.embedding = nn.Embedding(VOCABULARY, self.out)

    def run(self, m: Any, x: Tensor) -> Tensor:
        return m.embedding(x)

    def makes(self, form: Form) -> Kind:
        return "sequence"


@step
class TiedVocabulary(Step):
    """A language model: the embedding, layers, and the same embedding as the last layer."""

    width: int
    hidden: int

    def make(self, m: Any, form: Form) -> None:
        m.embedding = nn.Embedding(VOCABULARY, self.width)
        m.one, m.two = nn.Linear(self.width, self.hidden), nn.Linear(self.hidden, self.width)
        m.head = nn.Linear(self.width, VOCABULARY)
        m.head.weight = m.embedding.weight

    def run(self, m: Any, x: Tensor) -> Tensor:
        x = m.embedding(x)
        return m.head(x + m.two(F.gelu(m.one(x))))

    def makes(self, form: Form) -> Kind:
        return "sequence"


@step
class Linear(Step):
    out: int
    bias: bool = True

    def make(self, m: Any, form: Form) -> None:
        m.linear = nn.Linear(form.width, self.out, self.bias)

    def run(self, m: Any, x: Tensor) -> Tensor:
        return m.linear(x)


@step
class MatrixLinear(Step):
    """A linear layer as a product with a parameter: ``matmul``, ``addmm`` (GPT-2) or ``einsum``."""

    out: int
    how: str

    def make(self, m: Any, form: Form) -> None:
        m.nf, m.bias = self.out, nn.Parameter(torch.zeros(self.out))
        m.weight = nn.Parameter(torch.zeros(form.width, self.out))

    def run(self, m: Any, x: Tensor) -> Tensor:
        match self.how:
            case "matmul":
                return x @ m.weight + m.bias
            case "addmm":
                return torch.addmm(m.bias, x.reshape(-1, x.shape[-1]), m.weight).view(*x.shape[:-1], m.nf)
            case _:
                return torch.einsum("nc,co->no" if x.ndim == 2 else "ntc,co->nto", x, m.weight) + m.bias


@step
class FeedForward(Step):
    """``plain``, ``gated`` (two layers) or ``packed`` (one layer that is split); back to the width it read."""

    hidden: int
    how: str

    def make(self, m: Any, form: Form) -> None:
        m.up = nn.Linear(form.width, self.hidden * (2 if self.how == "packed" else 1))
        if self.how == "gated":
            m.gate = nn.Linear(form.width, self.hidden)
        m.down = nn.Linear(self.hidden, form.width)

    def run(self, m: Any, x: Tensor) -> Tensor:
        match self.how:
            case "plain":
                return m.down(F.gelu(m.up(x)))
            case "gated":
                return m.down(F.silu(m.gate(x)) * m.up(x))
            case _:
                gate, up = m.up(x).chunk(2, -1)
                return m.down(F.silu(gate) * up)


def rotated(x: Tensor) -> Tensor:
    """Rotary position embedding of (N, H, T, d), d even (arXiv:2104.09864)."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[-2], dtype=x.dtype)[:, None] / 100.0 ** (torch.arange(half, dtype=x.dtype) / half)
    angle = torch.cat([angle, angle], -1)
    return x * angle.cos() + torch.cat([-x[..., half:], x[..., :half]], -1) * angle.sin()


@step
class Attention(Step):
    """Self-attention; ``size`` entries a head, ``key_heads`` divides ``heads`` (grouped-query attention).

    ``product``: ``sdpa``, ``matmul``, ``bmm`` or ``einsum``. ``sizes``: whether the code reshapes by the number of
    heads that the module holds (``heads``), by the size of a head (``size``), or by both.
    """

    heads: int
    size: int
    key_heads: int
    product: str = "sdpa"
    sizes: str = "both"
    packed: bool = False
    rotary: bool = False
    causal: bool = False
    table: bool = False
    normed: bool = False
    bias: bool = True

    def make(self, m: Any, form: Form) -> None:
        m.num_heads, m.head_dim, m.num_key_heads = self.heads, self.size, self.key_heads
        width, inner, keys = form.width, self.heads * self.size, self.key_heads * self.size
        m.scaling = self.size**-0.5
        if self.packed:
            m.qkv = nn.Linear(width, 3 * inner, self.bias)
        else:
            m.q, m.k, m.v = (nn.Linear(width, made, self.bias) for made in (inner, keys, keys))
        m.out = nn.Linear(inner, width, self.bias)
        if self.table:
            m.table = nn.Parameter(torch.zeros(self.heads, form.shape[0], form.shape[0]))
        if self.causal:
            m.register_buffer("mask", torch.ones(form.shape[0], form.shape[0], dtype=torch.bool).tril())
        if self.normed:
            m.q_norm, m.k_norm = nn.LayerNorm(self.size), nn.RMSNorm(self.size)

    def run(self, m: Any, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        if self.packed:
            q, k, v = m.qkv(x).reshape(n, t, 3, m.num_heads, -1).permute(2, 0, 3, 1, 4)
        else:
            q = self._heads(m.q(x), m.num_heads, m.head_dim)
            k, v = (self._heads(y, m.num_key_heads, m.head_dim) for y in (m.k(x), m.v(x)))
        if self.normed:
            q, k = m.q_norm(q), m.k_norm(k)
        if self.rotary:
            q, k = rotated(q), rotated(k)
        if self.key_heads < self.heads:
            k, v = (y.repeat_interleave(self.heads // self.key_heads, 1) for y in (k, v))
        y = self._mixed(m, q, k, v).transpose(1, 2)
        return m.out(y.reshape(n, t, -1))

    def _heads(self, y: Tensor, heads: int, size: int) -> Tensor:
        n, t, _ = y.shape
        shape = {"heads": (heads, -1), "size": (-1, size), "both": (heads, size)}[self.sizes]
        return y.view(n, t, *shape).transpose(1, 2)

    def _mixed(self, m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        bias = m.table if self.table else None
        if self.product == "sdpa":
            return F.scaled_dot_product_attention(q, k, v, bias if self.table else m.mask if self.causal else None)
        n, h, t, _ = q.shape
        match self.product:
            case "bmm":
                q, k, v = (y.reshape(n * h, t, -1) for y in (q, k, v))
                scores = torch.bmm(q, k.transpose(1, 2)).view(n, h, t, t)
            case "einsum":
                scores = torch.einsum("nhid,nhjd->nhij", q, k)
            case _:
                scores = q @ k.transpose(-1, -2)
        scores = scores * m.scaling
        scores = scores + bias if self.table else scores
        scores = scores.masked_fill(~m.mask, float("-inf")) if self.causal else scores
        weights = scores.softmax(-1)
        match self.product:
            case "bmm":
                return torch.bmm(weights.view(n * h, t, t), v).view(n, h, t, -1)
            case "einsum":
                return torch.einsum("nhij,nhjd->nhid", weights, v)
            case _:
                return weights @ v


@step
class Multihead(Step):
    """`nn.MultiheadAttention` on itself, or from a reversed sequence."""

    heads: int
    cross: bool = False
    need_weights: bool = False
    batch_first: bool = True

    def make(self, m: Any, form: Form) -> None:
        m.attention = nn.MultiheadAttention(form.width, self.heads, batch_first=self.batch_first)

    def run(self, m: Any, x: Tensor) -> Tensor:
        x = x if self.batch_first else x.transpose(0, 1)
        read = x.flip(1) if self.cross else x
        x = m.attention(x, read, read, need_weights=self.need_weights)[0]
        return x if self.batch_first else x.transpose(0, 1)


@step
class EncoderLayer(Step):
    """`nn.TransformerEncoderLayer`."""

    heads: int
    hidden: int
    norm_first: bool

    def make(self, m: Any, form: Form) -> None:
        m.layer = nn.TransformerEncoderLayer(
            form.width, self.heads, self.hidden, norm_first=self.norm_first, batch_first=True, dropout=0.0
        )

    def run(self, m: Any, x: Tensor) -> Tensor:
        return m.layer(x)


@step
class ClassToken(Step):
    def make(self, m: Any, form: Form) -> None:
        m.token = nn.Parameter(torch.zeros(1, 1, form.width))

    def run(self, m: Any, x: Tensor) -> Tensor:
        return torch.cat([m.token.expand(len(x), -1, -1), x], 1)


@step
class Position(Step):
    """A parameter, a buffer or an embedding of the positions, added."""

    how: str

    def make(self, m: Any, form: Form) -> None:
        if self.how == "embedding":
            m.embedding = nn.Embedding(form.shape[0] + 3, form.width)
            m.register_buffer("ids", torch.arange(form.shape[0]))
        elif self.how == "buffer":
            m.register_buffer(
                "position", torch.sin(torch.arange(form.shape[0] * form.width).view(1, *form.shape) + 0.5)
            )
        else:
            m.position = nn.Parameter(torch.zeros(1, *form.shape))

    def run(self, m: Any, x: Tensor) -> Tensor:
        return x + (m.embedding(m.ids) if self.how == "embedding" else m.position)


@step
class Recurrent(Step):
    """``lstm``, ``gru`` or ``rnn``; its outputs, or its ``last`` state as a vector."""

    name: str
    hidden: int
    layers: int = 1
    directions: int = 1
    projection: int = 0
    batch_first: bool = True
    bias: bool = True
    last: bool = False

    def make(self, m: Any, form: Form) -> None:
        layer = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[self.name]
        more = {"proj_size": self.projection} if self.projection else {}
        m.cell = layer(
            form.width,
            self.hidden,
            self.layers,
            bias=self.bias,
            batch_first=self.batch_first,
            bidirectional=self.directions == 2,
            **more,
        )

    def run(self, m: Any, x: Tensor) -> Tensor:
        y, state = m.cell(x if self.batch_first else x.transpose(0, 1))
        if self.last:
            return (state[0] if self.name == "lstm" else state)[-1]
        return y if self.batch_first else y.transpose(0, 1)

    def makes(self, form: Form) -> Kind:
        return "vector" if self.last else "sequence"


@step
class MixTokens(Step):
    """A multilayer perceptron over positions (arXiv:2105.01601)."""

    hidden: int

    def make(self, m: Any, form: Form) -> None:
        m.one, m.two = nn.Linear(form.shape[0], self.hidden), nn.Linear(self.hidden, form.shape[0])

    def run(self, m: Any, x: Tensor) -> Tensor:
        return x + m.two(F.gelu(m.one(x.transpose(1, 2)))).transpose(1, 2)


@step
class ToMap(Step):
    """(N, T, C) to (N, C, T)."""

    def run(self, m: Any, x: Tensor) -> Tensor:
        return x.transpose(1, 2)

    def makes(self, form: Form) -> Kind:
        return "map"


@step
class OverTime(Step):
    """A sequence to a vector: ``mean``, ``max``, ``first``, ``last``, or ``weighted`` by a softmax."""

    how: str

    def make(self, m: Any, form: Form) -> None:
        if self.how == "weighted":
            m.score = nn.Linear(form.width, 1)

    def run(self, m: Any, x: Tensor) -> Tensor:
        match self.how:
            case "mean":
                return x.mean(1)
            case "max":
                return x.max(1).values
            case "first":
                return x[:, 0]
            case "last":
                return x[:, -1]
            case _:
                return (m.score(x).softmax(1) * x).sum(1)

    def makes(self, form: Form) -> Kind:
        return "vector"


@step
class Unflatten(Step):
    """(N, C × k × k) to (N, C, k, k), by attributes of the module (a decoder)."""

    size: int

    def make(self, m: Any, form: Form) -> None:
        m.channels = form.width // self.size**2

    def run(self, m: Any, x: Tensor) -> Tensor:
        return x.view(len(x), m.channels, self.size, self.size)

    def makes(self, form: Form) -> Kind:
        return "map"


@step
class Outer(Step):
    """The products of two small projections of a vector: a bilinear layer by hand, or `nn.Bilinear`."""

    size: int
    module: bool

    def make(self, m: Any, form: Form) -> None:
        m.one, m.two = nn.Linear(form.width, self.size), nn.Linear(form.width, self.size)
        if self.module:
            m.both = nn.Bilinear(self.size, self.size, self.size)

    def run(self, m: Any, x: Tensor) -> Tensor:
        a, b = torch.tanh(m.one(x)), torch.tanh(m.two(x))
        return m.both(a, b) if self.module else (a[:, :, None] * b[:, None, :]).flatten(1)
