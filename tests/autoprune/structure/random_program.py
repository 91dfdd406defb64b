"""Random nets as data: a `Net` is a drawn program of steps, and `Run` is the one module that builds and runs a step.

What a failure prints is Python that makes the net again, ready to be copied as a regression case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

Kind = Literal["map", "sequence", "vector", "tokens"]


@dataclass(frozen=True)
class Form:
    """What an activation looks like: (N, C, *space), (N, T, C), (N, C), or tokens (N, T)."""

    kind: Kind
    shape: tuple[int, ...]
    """Without the batch."""

    @property
    def dim(self) -> int:
        """Dimension of the channels."""
        return -1 if self.kind == "sequence" else 1

    @property
    def width(self) -> int:
        """Number of channels."""
        return self.shape[-1 if self.kind == "sequence" else 0]

    @property
    def space(self) -> tuple[int, ...]:
        """Positions, one size per dimension."""
        return self.shape[:-1] if self.kind == "sequence" else self.shape[1:]


@dataclass(frozen=True)
class Step:
    """Reads one activation and makes one."""

    def __repr__(self) -> str:
        """Python that makes it, without what is left at its default."""
        told = [(f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default]
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in told)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How hypothesis prints it."""
        printer.text(repr(self))

    def make(self, m: Any, form: Form) -> None:
        """Give the module its layers and attributes; ``form`` is what it will read."""

    def run(self, m: Any, x: Tensor) -> Tensor:
        """The module's ``forward``."""
        raise NotImplementedError

    def makes(self, form: Form) -> Kind:
        """Kind of what it makes."""
        return form.kind


class Run(nn.Module):
    """A step as a module."""

    def __init__(self, step: Step, form: Form) -> None:
        super().__init__()
        self.step = step
        step.make(self, form)

    def forward(self, x: Tensor) -> Tensor:
        return self.step.run(self, x)


# torch looks up once which functions make tensors. transformers replaces linspace for a while as it makes a model, and
# in a process where that came first it would make no tensors without numbers ever after.
with torch.device("meta"):
    torch.empty(0)


@cache
def after(step: Step, form: Form) -> Form:
    """What the step makes of that, found by running it without numbers."""
    with torch.device("meta"), torch.no_grad():
        dtype = torch.int64 if form.kind == "tokens" else torch.float32
        made = Run(step, form).eval()(torch.zeros(2, *form.shape, dtype=dtype))
    return Form(step.makes(form), tuple(made.shape[1:]))


def after_all(steps: Sequence[Step], form: Form) -> Form:
    """What the steps make of that, one after the other."""
    for step in steps:
        form = after(step, form)
    return form


def chain(steps: Sequence[Step], form: Form) -> nn.Sequential:
    """The steps as modules, one after the other."""
    runs = []
    for step in steps:
        runs.append(Run(step, form))
        form = after(step, form)
    return nn.Sequential(*runs)


@dataclass(frozen=True)
class Net:
    """A whole net."""

    reads: Form
    steps: tuple[Step, ...]
    seed: int = 0
    """Of its weights and its inputs."""

    def build(self) -> nn.Module:
        """The module, in ``eval()``, with random weights of which none is 0 or 1."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            net = chain(self.steps, self.reads)
            randomize(net)
        return net.eval()

    def inputs(self, samples: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
        """An input of so many samples."""
        generator = torch.Generator().manual_seed(1000 * self.seed + seed)
        if self.reads.kind == "tokens":
            return (torch.randint(VOCABULARY, (samples, *self.reads.shape), generator=generator),)
        return (torch.randn(samples, *self.reads.shape, generator=generator, dtype=dtype),)


VOCABULARY = 11


def randomize(net: nn.Module) -> None:
    """Scales about 1, offsets about ±0.5, matrices that keep the size of what they read; running statistics too."""
    for module in net.modules():
        for name, tensor in module.named_parameters(recurse=False):
            with torch.no_grad():
                if tensor.ndim > 1:
                    fan = max(1, tensor[0].numel() if not isinstance(module, nn.Embedding) else 1)
                    tensor.normal_(std=fan**-0.5)
                elif "weight" in name or "scale" in name:
                    tensor.uniform_(0.6, 1.4)
                else:
                    tensor.uniform_(0.2, 0.8).mul_(torch.randn_like(tensor).sign())
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)


step = dataclass(frozen=True, repr=False)
"""Decorates every kind of step."""
