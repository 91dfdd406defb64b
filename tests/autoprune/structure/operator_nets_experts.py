"""Experts: stacked, listed, gated."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .operator_nets import Cases, linear, parameter

CASES = Cases()
case = CASES.enter


@case({"w": 16}, r=linear(8, 3), w=parameter(3, 8, 16), v=parameter(3, 16, 4))
def stacked_experts(m, x):
    made = torch.einsum("neh,eho->neo", torch.einsum("nd,edh->neh", x, m.w).relu(), m.v)
    return torch.einsum("neo,ne->no", made, m.r(x).softmax(-1))


@case(
    {"i": 12, "w": 16},
    i=linear(8, 12), r=linear(12, 3), w=parameter(3, 12, 16), b=parameter(3, 16), v=parameter(3, 16, 12),
    o=linear(12, 4),
)  # fmt: skip
def stacked_experts_in_a_stream(m, x):
    x = m.i(x).relu()
    hidden = F.gelu(torch.einsum("nd,edh->neh", x, m.w) + m.b)
    made = torch.einsum("neh,ehd->ned", hidden, m.v)
    return m.o(x + (made * m.r(x).softmax(-1)[..., None]).sum(1))


@case({"i": 12, "w": 16}, i=linear(8, 12), r=linear(12, 3), w=parameter(3, 12, 16), v=parameter(3, 16, 12))
def experts_by_bmm(m, x):
    x = m.i(x).relu()
    made = torch.bmm(torch.bmm(x.expand(3, -1, -1), m.w).relu(), m.v)
    return ((x + made) * m.r(x).softmax(-1).t()[..., None]).sum((0, 2))


@case({"i": 12, "w": 16}, i=linear(8, 12), r=linear(12, 3), w=parameter(3, 12, 16), v=parameter(3, 16, 4))
def best_expert_alone(m, x):
    x = m.i(x).relu()
    weight, expert = m.r(x).softmax(-1).max(-1)
    hidden = torch.bmm(x[:, None], m.w.index_select(0, expert)).relu()
    return torch.bmm(hidden, m.v[expert])[:, 0] * weight[:, None]


@case({"i": 12, "w": 16}, i=linear(8, 12), r=linear(12, 3), w=parameter(3, 12, 32), v=parameter(3, 16, 4))
def gated_experts(m, x):
    x = m.i(x)
    gate, value = torch.matmul(x, m.w).chunk(2, -1)
    return (torch.matmul(F.silu(gate) * value, m.v) * m.r(x).softmax(-1).t()[..., None]).sum(0)


def expert() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 16), nn.GELU(), nn.Linear(16, 12))


LISTED = {"i": 12, "x.0": 16, "y.0": 16}


@case(LISTED, i=linear(8, 12), r=linear(12, 2), x=expert, y=expert, o=linear(12, 4))
def listed_experts(m, x):
    x = m.i(x)
    shares = m.r(x).softmax(-1)
    shares = shares * (shares >= shares.topk(1).values)
    total = torch.zeros_like(x)
    for n, each in enumerate((m.x, m.y)):
        total += each(x) * shares[:, n : n + 1]
    return m.o(x + total)


@case(LISTED, i=linear(8, 12), r=linear(12, 2), x=expert, y=expert, o=linear(12, 4))
def listed_experts_gathered(m, x):
    x = m.i(x)
    weights, chosen = m.r(x).softmax(-1).topk(1)
    made = torch.stack([m.x(x) + x, m.y(x) + x], 1)
    made = made.gather(1, chosen[..., None].expand(-1, -1, made.shape[-1]))
    return m.o((made * weights[..., None]).sum(1))
