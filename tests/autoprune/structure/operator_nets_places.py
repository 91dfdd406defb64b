"""Entries read and written at places."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .operator_nets import Cases, convolution, graphs, images, linear, rows, steps

CASES = Cases()
case = CASES.enter


@case({"i": 16}, graphs, i=linear(8, 16), m=linear(16, 16), o=linear(16, 4))
def messages(m, x, start, end):
    x = m.i(x)
    sent = m.m(x.gather(1, start[..., None].expand(-1, -1, x.shape[-1]))).relu()
    return m.o(torch.zeros_like(x).scatter_add(1, end[..., None].expand_as(sent), sent))


@case({"i": 16, "m": 12}, graphs, "graph", i=linear(8, 16), m=linear(16, 12), o=linear(12, 4))
def messages_by_numbers(m, x, start, end):
    sent = m.m(m.i(x).gather(1, start[..., None].expand(-1, -1, 16))).relu()
    return m.o(torch.zeros(len(x), 6, 12).scatter_add_(1, end[..., None].expand(-1, -1, 12), sent))


@case({"i": 16}, graphs, i=linear(8, 16), o=linear(16, 4))
def greatest_message(m, x, start, end):
    x = m.i(x).relu()
    return m.o(torch.zeros_like(x).scatter_reduce(1, end[:, :6, None].expand_as(x), x, "amax"))


@case({"i": 16}, graphs, i=linear(8, 16), o=linear(16, 4))
def taken_along(m, x, start, end):
    return m.o(m.i(x).take_along_dim(start[..., None], 1).relu())


@case({"i": 16, "m": 16}, steps, i=linear(6, 16), m=linear(16, 16), o=linear(16, 4))
def index_add(m, x):
    sent = m.m(m.i(x)[:, :2])
    return m.o(torch.zeros(len(x), 3, sent.shape[-1]).index_add_(1, torch.tensor([2, 0]), sent).tanh())


@case({"i": 16}, steps, i=linear(6, 16), m=linear(6, 16), o=linear(16, 4))
def index_copy(m, x):
    return m.o(m.i(x).index_copy(1, torch.tensor([0, 3]), m.m(x[:, :2])).relu())


@case({"i": 16}, steps, i=linear(6, 16), m=linear(6, 16), o=linear(16, 4))
def index_put(m, x):
    y = m.i(x)
    z = torch.zeros_like(y)
    z[:, [1, 4]] = m.m(x)[:, :2]
    return m.o((y + z).relu())


@case({"i": 16}, steps, i=linear(6, 16), o=linear(16, 4))
def mask_of_entries(m, x):
    y = m.i(x).clone()
    y[y > 0.5] = 0.5
    return m.o(y)


@case({"i": 16}, steps, i=linear(6, 16), o=linear(16, 4))
def mask_of_rows(m, x):
    y = m.i(x).clone()
    y[x[..., 0] > 0.5] = 0.1
    return m.o(y)


@case({}, rows, i=linear(8, 16), o=linear(6, 4))
def part_of_the_units(m, x):
    """The places are for fewer entries than there are units: the first of them."""
    x = m.i(x)
    return m.o(x.gather(0, torch.zeros(len(x), 6, dtype=torch.int64)))


@case({}, rows, i=linear(8, 16), o=linear(16, 4))
def along_the_units(m, x):
    x = m.i(x)
    return m.o(x.scatter_add(1, torch.ones(len(x), 16, dtype=torch.int64), x))


@case({"c": 8, "d": 12}, images, c=convolution(3, 8), d=convolution(8, 12), e=convolution(12, 8), o=convolution(8, 2))
def unpooled(m, x):
    y, places = F.max_pool2d(m.c(x).relu(), 2, return_indices=True)
    return m.o(F.max_unpool2d(m.e(m.d(y).relu()), places, 2))


@case({"c": 8}, images, c=convolution(3, 8), f=convolution(8, 2), o=convolution(8, 2))
def deformed(m, x):
    x = m.c(x).relu()
    return m.o(F.grid_sample(x, m.f(x).permute(0, 2, 3, 1).tanh(), align_corners=False))
