"""Products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .operator_nets import Cases, linear, parameter, steps

CASES = Cases()
case = CASES.enter


@case({"i": 16}, i=linear(8, 16), v=parameter(16))
def matrix_times_vector(m, x):
    return torch.mv(m.i(x).relu(), m.v)


@case({"i": 16}, steps, i=linear(6, 16), v=parameter(16))
def batch_times_vector(m, x):
    return m.i(x).relu() @ m.v


@case({"a": 16}, a=parameter(16, 8), b=parameter(16))
def dot_of_parameters(m, x):
    return x[:, 0] * torch.dot((m.a @ torch.ones(8)).tanh(), m.b)


@case({"i": 16}, i=linear(8, 16), a=linear(8, 16))
def vector_dots(m, x):
    return torch.linalg.vecdot(m.i(x).relu(), m.a(x).tanh())


@case({"i": 16}, i=linear(8, 16), a=linear(8, 16))
def cosines(m, x):
    return F.cosine_similarity(m.i(x), m.a(x).tanh())


@case({"i": 16}, steps, i=linear(6, 16), w=parameter(16, 5))
def tensor_product(m, x):
    return torch.tensordot(m.i(x).relu(), m.w, dims=([2], [0]))


@case({"i": 12}, steps, i=linear(6, 12), c=parameter(20, 12), o=linear(12, 3))
def nearest_in_a_codebook(m, x):
    x = m.i(x)
    nearest = torch.cdist(x, m.c.expand(len(x), -1, -1)).argmin(-1)
    return m.o(m.c[nearest] + x)


@case({"a": 12, "b": 10, "p": 14}, a=linear(8, 12), b=linear(8, 10), p=lambda: nn.Bilinear(12, 10, 14), o=linear(14, 4))
def bilinear(m, x):
    return m.o(m.p(m.a(x).relu(), m.b(x).tanh()).relu())


@case({"a": 12, "p": 14}, steps, a=linear(6, 12), p=lambda: nn.Bilinear(12, 12, 14, bias=False), o=linear(14, 4))
def bilinear_of_steps(m, x):
    y = m.a(x)
    return m.o(m.p(y.relu(), y.tanh()).relu())


@case({"i": 16}, steps, i=linear(6, 16), o=linear(16, 4))
def running_along_steps(m, x):
    y = m.i(x)
    return m.o(y.cumsum(1) + y.logcumsumexp(1) + y.cummax(1).values)
