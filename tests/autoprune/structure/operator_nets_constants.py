"""Constants made in the shape of something."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .operator_nets import Cases, linear, parameter, steps

CASES = Cases()
case = CASES.enter


@case({"i": 16}, i=linear(8, 16), x=linear(16, 16), y=linear(16, 16), o=linear(16, 4))
def sum_from_zeros_like(m, x):
    x = F.relu(m.i(x))
    total = torch.zeros_like(x)
    for expert in (m.x, m.y):
        total = total + F.relu(expert(x))
    return m.o(total)


@case({"i": 16}, i=linear(8, 16), o=linear(16, 4))
def ones_like(m, x):
    x = F.relu(m.i(x))
    return m.o(torch.ones_like(x) * 0.5 - x)


@case({"i": 16}, i=linear(8, 16), a=linear(16, 16), o=linear(16, 4))
def where_full_like(m, x):
    x = m.i(x)
    return m.o(torch.where(m.a(x) > 0, x, torch.full_like(x, -0.3)))


@case({"i": 16}, i=linear(8, 16), o=linear(16, 4))
def copied_into_empty_like(m, x):
    x = m.i(x)
    return m.o(torch.empty_like(x).copy_(x.relu()))


@case({"i": 16}, i=linear(8, 16), o=linear(16, 4))
def no_noise(m, x):
    x = m.i(x)
    return m.o(x + 0 * torch.rand_like(x))


@case({"i": 16, "a": 16}, form="graph", i=linear(8, 16), a=linear(16, 16), o=linear(16, 4))
def new_zeros_of_a_shape(m, x):
    x = m.i(x)
    return m.o(x.new_zeros(x.shape) + m.a(x).relu())


@case({"i": 16, "a": 16}, form="graph", i=linear(8, 16), a=linear(16, 16), o=linear(16, 4))
def new_full_of_a_number(m, x):
    x = m.i(x)
    return m.o(x.new_full((len(x), 16), 0.5) * m.a(x).relu())


@case({"i": 16, "a": 16}, i=linear(8, 16), a=linear(16, 16), o=linear(16, 4), width=16)
def zeros_of_an_attribute(m, x):
    x = m.i(x)
    total = torch.zeros(len(x), m.width)
    total += m.a(x).relu()
    return m.o(total)


@case({"i": 16}, form="graph", i=linear(8, 16), b=parameter(16), o=linear(16, 4))
def ones_times_a_parameter(m, x):
    return m.o(m.i(x) + torch.ones(len(x), 16) * m.b)


@case({"i": 16}, form="graph", i=linear(8, 16), a=linear(8, 16), o=linear(16, 4))
def written_into_zeros(m, x):
    made = torch.zeros(len(x), 2, 16)
    made[:, 0] = m.i(x)
    made[:, 1] = m.a(x)
    return m.o(made.tanh())


@case({"i": 16}, steps, i=linear(6, 16), o=linear(16, 4))
def expanded_as_another(m, x):
    y = m.i(x)
    return m.o(y.masked_fill((x[..., :1] > 0).expand_as(y), 0.5))


@case({"i": 16}, steps, "graph", i=linear(6, 16), o=linear(16, 4))
def expanded_to_a_number(m, x):
    return m.o(m.i(x) * x[..., :1].expand(-1, -1, 16))


@case({"i": 16}, steps, "graph", i=linear(6, 16), o=linear(16, 4))
def repeated(m, x):
    return m.o(m.i(x) * x[..., :1].repeat(1, 1, 16))


@case({"i": 16}, steps, "graph", i=linear(6, 16), u=parameter(16, 16), o=linear(16, 4))
def recurrent_by_hand(m, x):
    h = torch.zeros(len(x), 16)
    for t in range(3):
        h = torch.tanh(m.i(x[:, t]) + h @ m.u)
    return m.o(h)


@case({"i": 16}, steps, i=linear(6, 16), u=parameter(16, 16), h=parameter(1, 16), o=linear(16, 4))
def learned_first_state(m, x):
    h = m.h.expand(len(x), -1)
    for t in range(3):
        h = torch.tanh(m.i(x[:, t]) + h @ m.u)
    return m.o(h)
