"""Recurrent cells, and bags of embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .operator_nets import Cases, convolution, images, linear, parameter, steps, tokens, weighted

CASES = Cases()
case = CASES.enter

# Cells.


@case({"i": 12, "c": 16}, steps, i=linear(6, 12), c=lambda: nn.GRUCell(12, 16), o=linear(16, 3))
def gru_cell(m, x):
    h = None
    for t in range(4):
        h = m.c(F.relu(m.i(x[:, t])), h)
    return m.o(h)


@case({"c": 16}, steps, c=lambda: nn.LSTMCell(6, 16), o=linear(16, 3))
def lstm_cell(m, x):
    state = None
    for t in range(4):
        state = m.c(x[:, t], state)
    return m.o(state[0] + state[1])


@case({"c": 16}, steps, c=lambda: nn.RNNCell(6, 16), o=linear(16, 3))
def tanh_cell(m, x):
    h, made = None, []
    for t in range(4):
        h = m.c(x[:, t], h)
        made.append(h)
    return m.o(torch.stack(made, 1))


@case({"c": 16}, steps, c=lambda: nn.RNNCell(6, 16, bias=False, nonlinearity="relu"), o=linear(16, 3))
def relu_cell(m, x):
    h = x.new_zeros(len(x), m.c.hidden_size)
    for t in range(4):
        h = m.c(x[:, t], h)
    return m.o(h)


@case(
    {"c": 16, "d": 10}, steps, "graph",
    c=lambda: nn.GRUCell(6, 16), d=lambda: nn.LSTMCell(16, 10, bias=False), o=linear(10, 3),
)  # fmt: skip
def cells_on_each_other(m, x):
    h, k, c = torch.zeros(len(x), 16), x.new_zeros(len(x), 10), x.new_zeros(len(x), 10)
    for t in range(3):
        h = m.c(x[:, t], h)
        k, c = m.d(h, (k, c))
    return m.o(k)


@case({"e": 16}, steps, e=lambda: nn.GRU(6, 16, batch_first=True), c=lambda: nn.LSTMCell(6, 16), o=linear(16, 3))
def encoder_and_cell(m, x):
    h = m.e(x)[1][0]
    return m.o(m.c(x[:, 0], (h, torch.zeros_like(h)))[0])


@case({"c": 16}, steps, "graph", c=lambda: nn.GRUCell(6, 16), h=parameter(16), o=linear(16, 3))
def cell_from_a_parameter(m, x):
    h = m.h.expand(len(x), 16)
    for t in range(3):
        h = m.c(x[:, t], h)
    return m.o(h)


@case({"g": 10}, images, g=convolution(13, 40), o=convolution(10, 2))
def convolutional_lstm(m, x):
    h = c = x.new_zeros(len(x), m.o.in_channels, 8, 8)
    for _ in range(2):
        i, f, o, g = m.g(torch.cat([x, h], 1)).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    return m.o(h)


# Bags.


@case({"e": 16, "a": 24}, tokens, e=lambda: nn.EmbeddingBag(30, 16), a=linear(16, 24), o=linear(24, 4))
def bag_mean(m, x):
    return m.o(F.relu(m.a(m.e(x))))


@case({"e": 16}, tokens, e=lambda: nn.EmbeddingBag(30, 16, mode="max"), o=linear(16, 4))
def bag_max(m, x):
    return m.o(m.e(x).tanh())


@case({"e": 16}, tokens, e=lambda: nn.EmbeddingBag(30, 16, mode="sum", padding_idx=0), o=linear(16, 4))
def bag_padded(m, x):
    return m.o(m.e(x).tanh())


@case({"e": 16}, weighted, e=lambda: nn.EmbeddingBag(30, 16, mode="sum"), w=linear(6, 6), o=linear(16, 4))
def bag_weighted(m, x, weights):
    return m.o(m.e(x, per_sample_weights=m.w(weights)))


@case({"e": 16}, tokens, e=lambda: nn.EmbeddingBag(30, 16), f=lambda: nn.EmbeddingBag(30, 16), o=linear(4, 4))
def bags_that_interact(m, x):
    both = torch.stack([m.e(x), m.f(x)], 1)
    return m.o((both @ both.transpose(1, 2)).flatten(1))
