"""Steps of random nets that join, split and scale, on any kind of activation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .random_program import Form, Run, Step, after_all, chain, step
from .random_steps import CONVOLUTIONS, POOLS, Resize, TransposedConv


@step
class Chain(Step):
    """A module list that a loop runs."""

    body: tuple[Step, ...]

    def make(self, m: Any, form: Form) -> None:
        m.layers = nn.ModuleList(chain(self.body, form))

    def run(self, m: Any, x: Tensor) -> Tensor:
        for layer in m.layers:
            x = layer(x)
        return x


@step
class Twice(Step):
    """Shared modules: the body runs on what it made."""

    body: tuple[Step, ...]

    def make(self, m: Any, form: Form) -> None:
        m.body = chain(self.body, form)
        m.same = m.body

    def run(self, m: Any, x: Tensor) -> Tensor:
        return m.same(m.body(x))


@step
class Residual(Step):
    """``identity``, ``project`` (a convolution or linear layer) or ``pad`` (zero channels, option A) beside a body."""

    body: tuple[Step, ...]
    shortcut: str = "identity"
    gated: bool = False

    def make(self, m: Any, form: Form) -> None:
        m.body, made = chain(self.body, form), after_all(self.body, form)
        m.extra = made.width - form.width
        m.stride = form.space[0] // made.space[0] if form.kind == "map" else 1
        if self.shortcut == "project":
            conv = CONVOLUTIONS.get(len(form.space))
            m.short = (
                conv(form.width, made.width, 1, m.stride)
                if conv and form.kind == "map"
                else nn.Linear(form.width, made.width)
            )
        if self.gated:
            m.scale = nn.Parameter(torch.ones(made.width, *[1] * (len(made.shape) - 1 if form.dim == 1 else 0)))

    def run(self, m: Any, x: Tensor) -> Tensor:
        y = m.body(x)
        y = y * m.scale if self.gated else y
        if self.shortcut == "project":
            return m.short(x) + y
        if self.shortcut == "pad":
            x = x[(slice(None), slice(None), *[slice(None, None, m.stride)] * (x.ndim - 2))] if m.stride > 1 else x
            before = m.extra // 2
            x = F.pad(x, (*[0, 0] * (x.ndim - 2), before, m.extra - before))
        return x + y


@step
class Concat(Step):
    """Branches side by side, beside what they read if that is kept (Inception; DenseNet)."""

    branches: tuple[tuple[Step, ...], ...]
    keep: bool = False

    def make(self, m: Any, form: Form) -> None:
        m.branches = nn.ModuleList(chain(branch, form) for branch in self.branches)
        m.dim = form.dim

    def run(self, m: Any, x: Tensor) -> Tensor:
        return torch.cat([*([x] if self.keep else []), *(branch(x) for branch in m.branches)], m.dim)


@step
class UNet(Step):
    """Down, the body, up again, beside what came in."""

    body: tuple[Step, ...]
    transposed: bool

    def make(self, m: Any, form: Form) -> None:
        small = Form("map", (form.width, *(size // 2 for size in form.space)))
        m.body, made = chain(self.body, small), after_all(self.body, small)
        m.up = Run(TransposedConv(made.width) if self.transposed else Resize("linear"), made)

    def run(self, m: Any, x: Tensor) -> Tensor:
        return torch.cat([m.up(m.body(POOLS["max"][x.ndim - 2](x, 2))), x], 1)


@step
class Split(Step):
    """Parts of the channels: each through its body; then ``cat`` (CSP), ``add`` or ``gate`` (GLU)."""

    sizes: tuple[int, ...]
    bodies: tuple[tuple[Step, ...], ...]
    how: str = "split"
    join: str = "cat"

    def make(self, m: Any, form: Form) -> None:
        forms = [Form(form.kind, (*form.space, s) if form.dim == -1 else (s, *form.space)) for s in self.sizes]
        m.bodies = nn.ModuleList(chain(body, part) for body, part in zip(self.bodies, forms, strict=True))
        m.dim, m.part = form.dim, self.sizes[0]

    def run(self, m: Any, x: Tensor) -> Tensor:
        match self.how:
            case "split":
                parts = x.split(list(self.sizes), m.dim)
            case "chunk":
                parts = x.chunk(len(self.sizes), m.dim)
            case "part":
                parts = x.split(m.part, m.dim)
            case _:  # slices with bounds computed from the width
                part = x.shape[m.dim] // len(self.sizes)
                parts = tuple(x.narrow(m.dim, i * part, part) for i in range(len(self.sizes)))
        made = [body(part) for body, part in zip(m.bodies, parts, strict=True)]
        match self.join:
            case "cat":
                return torch.cat(made, m.dim)
            case "add":
                return sum(made[1:], made[0])
            case _:
                return made[0] * torch.sigmoid(sum(made[2:], made[1]))


@step
class Glu(Step):
    def make(self, m: Any, form: Form) -> None:
        m.dim = form.dim

    def run(self, m: Any, x: Tensor) -> Tensor:
        return F.glu(x, m.dim)


@step
class Scale(Step):
    """A parameter or buffer, one entry for each channel or one for all, that is added or multiplied."""

    buffer: bool
    per_channel: bool
    add: bool

    def make(self, m: Any, form: Form) -> None:
        width = form.width if self.per_channel else 1
        values = torch.linspace(0.5, 1.6, width).view(width, *[1] * (len(form.shape) - 1 if form.dim == 1 else 0))
        if self.buffer:
            m.register_buffer("scale", values)
        else:
            m.scale = nn.Parameter(values)

    def run(self, m: Any, x: Tensor) -> Tensor:
        return x + m.scale if self.add else x * m.scale


@step
class OverChannels(Step):
    """What averages or normalises over the channels: they have to stay, the rest has not."""

    name: str

    def make(self, m: Any, form: Form) -> None:
        m.dim = form.dim

    def run(self, m: Any, x: Tensor) -> Tensor:  # noqa: C901  a table
        match self.name:
            case "mean":
                return x - x.mean(m.dim, keepdim=True)
            case "gate":
                return x * torch.sigmoid(x.mean(m.dim, keepdim=True))
            case "softmax":
                return x.softmax(m.dim)
            case "normalize":
                return F.normalize(x, dim=m.dim)
            case "cumsum":
                return x.cumsum(m.dim) * 0.3
            case "cummax":
                return x.cummax(m.dim).values
            case "sort":
                return x.sort(m.dim).values
            case "flip":
                return x + x.flip(m.dim)
            case "roll":
                return x.roll(1, m.dim)
            case "divide":
                return x * x.shape[m.dim] ** -0.5
            case _:
                return x.narrow(m.dim, 0, 1) + x


@step
class Tied(Step):
    """Two layers with one weight, or one layer on two readings of what comes in."""

    out: int
    one_module: bool

    def make(self, m: Any, form: Form) -> None:
        layer = (
            (lambda: CONVOLUTIONS[len(form.space)](form.width, self.out, 1))
            if form.kind == "map"
            else (lambda: nn.Linear(form.width, self.out))
        )
        m.one = layer()
        m.two = m.one if self.one_module else layer()
        m.two.weight = m.one.weight

    def run(self, m: Any, x: Tensor) -> Tensor:
        return m.one(x) + torch.tanh(m.two(F.relu(x)))
