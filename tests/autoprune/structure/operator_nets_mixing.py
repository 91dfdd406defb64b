"""Units along two dimensions, and attention with a bias for every head."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .operator_nets import Cases, linear, parameter, steps

CASES = Cases()
case = CASES.enter

# Units along two dimensions: tokens are mixed, for each channel alike.


@case({"i": 12, "a": 10}, steps, i=linear(6, 12), a=linear(5, 10), b=linear(10, 5), o=linear(12, 4))
def mixed_tokens(m, x):
    x = m.i(x)
    return m.o(x + m.b(F.gelu(m.a(x.transpose(1, 2)))).transpose(1, 2))


@case(
    {"i": 12, "a": 10, "c": 20}, steps,
    i=linear(6, 12), a=linear(5, 10), b=linear(10, 5), s=parameter(12), c=linear(12, 20), d=linear(20, 12),
    o=linear(12, 4),
)  # fmt: skip
def mixed_tokens_and_channels(m, x):
    x = m.i(x)
    x = x + (m.b(F.silu(m.a((x * m.s).mT))) * m.s[:, None]).mT
    x = x + m.d(F.gelu(m.c(x)))
    return m.o(x.mean(1))


@case(
    {"i": 12, "a": 10}, steps,
    i=linear(6, 12), a=lambda: nn.Conv1d(5, 10, 1), b=lambda: nn.Conv1d(10, 5, 1), o=linear(12, 4),
)  # fmt: skip
def mixed_by_convolutions(m, x):
    x = m.i(x)
    return m.o(x + m.b(F.gelu(m.a(x))))


@case({"i": 12, "a": 10}, steps, i=linear(6, 12), a=parameter(5, 10), b=parameter(10, 5), o=linear(12, 4))
def mixed_by_einsum(m, x):
    x = m.i(x)
    return m.o(x + torch.einsum("nhd,ht->ntd", torch.einsum("ntd,th->nhd", x, m.a).relu(), m.b))


@case({"i": 6}, steps, i=linear(6, 12), a=linear(5, 5), o=linear(6, 4))
def gated_by_other_tokens(m, x):
    u, v = m.i(x).chunk(2, -1)
    return m.o(u * m.a(v.mT).mT)


@case(
    {"a": 10}, steps,
    i=linear(6, 12), a=lambda: nn.Conv1d(5, 10, 3, padding=1), b=lambda: nn.Conv1d(10, 5, 3, padding=1),
    o=linear(12, 4),
)  # fmt: skip
def mixed_with_neighbours(m, x):
    x = m.i(x)
    return m.o(x + m.b(F.gelu(m.a(x))))


@case({"i": 12}, steps, i=linear(6, 12), a=linear(5, 10), b=linear(10, 5), o=linear(12, 4))
def mixed_and_normed(m, x):
    return m.o(m.b(m.a(m.i(x).mT).softmax(-1)).mT)


@case({"i": 12}, steps, i=linear(6, 12), a=linear(5, 10), b=linear(20, 5), o=linear(12, 4))
def mixed_and_joined(m, x):
    """What does not know units along two dimensions leaves those that came first."""
    y = m.a(m.i(x).mT)
    return m.o(m.b(torch.cat([y, y.relu()], -1)).mT)


@case({"q": 12, "v": 10}, steps, q=linear(6, 12), k=linear(6, 12), v=linear(6, 10), o=linear(10, 4))
def product_of_products(m, x):
    return m.o(m.q(x) @ (m.k(x).mT @ m.v(x)))


# Attention with a bias for every head.


def attended(m: Any, x: Tensor, bias: Tensor) -> Tensor:
    n, t, _ = x.shape
    q, k, v = (layer(x).view(n, t, -1, 3).transpose(1, 2) for layer in (m.q, m.k, m.v))
    weights = (q @ k.transpose(-1, -2) * 3**-0.5 + bias).softmax(-1)
    return m.o((weights @ v).transpose(1, 2).reshape(n, t, -1))


def distances(t: int) -> Tensor:
    return -(torch.arange(t)[:, None] - torch.arange(t)).abs().float()


QKVO = {"q": linear(6, 12), "k": linear(6, 12), "v": linear(6, 12), "o": linear(12, 4)}
SLOPES = (0.5, 0.25, 0.125, 0.0625)


@case({"q": 4}, steps, z=lambda: nn.Buffer(torch.tensor(SLOPES).view(4, 1, 1)), **QKVO)
def slopes_in_a_buffer(m, x):
    return attended(m, x, m.z * distances(5))


@case({"q": 4}, steps, z=parameter(4, 1, 1), **QKVO)
def learned_slopes(m, x):
    return attended(m, x, m.z * distances(5))


@case({"q": 3, "v": 3}, steps, "graph", **QKVO)
def slopes_in_the_code(m, x):
    """The heads stay, their widths go."""
    return attended(m, x, torch.tensor(SLOPES).view(4, 1, 1) * distances(5))


@case({"q": 4}, steps, z=lambda: nn.Buffer(torch.tensor(SLOPES).view(4, 1, 1)), **QKVO)
def slopes_in_a_mask(m, x):
    n, t, _ = x.shape
    q, k, v = (layer(x).view(n, t, -1, 3).transpose(1, 2) for layer in (m.q, m.k, m.v))
    bias = (m.z * distances(5)).expand(n, -1, -1, -1)
    return m.o(F.scaled_dot_product_attention(q, k, v, bias, scale=0.5).transpose(1, 2).reshape(n, t, -1))
