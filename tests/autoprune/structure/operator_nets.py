"""Nets of one operator each, between layers whose units it couples or leaves alone: what they are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Make = Callable[[], nn.Module]


class Net(nn.Module):
    """Runs a plain function of itself and its inputs."""

    def __init__(self, way: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.way = way
        for name, part in parts.items():
            setattr(self, name, part() if callable(part) else part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.way(self, *inputs)


@dataclass(frozen=True)
class OperatorCase:
    """A net, and what can be cut of it."""

    way: Callable[..., Any]
    parts: dict[str, Any]
    inputs: Callable[[int, torch.Generator], tuple[Tensor, ...]]
    cut: dict[str, int]
    """Groups and their units."""
    form: str

    def net(self, seed: int = 0) -> Net:
        torch.manual_seed(seed)
        return Net(self.way, **self.parts).eval()

    def example(self, samples: int, seed: int = 0) -> tuple[Tensor, ...]:
        return self.inputs(samples, torch.Generator().manual_seed(seed))


def rows(n: int, g: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.randn(n, 8, generator=g),)


def steps(n: int, g: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.randn(n, 5, 6, generator=g),)


def images(n: int, g: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.randn(n, 3, 8, 8, generator=g),)


def tokens(n: int, g: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.randint(0, 30, (n, 6), generator=g),)


def weighted(n: int, g: torch.Generator) -> tuple[Tensor, ...]:
    return *tokens(n, g), torch.randn(n, 6, generator=g)


def graphs(n: int, g: torch.Generator) -> tuple[Tensor, ...]:
    """Six nodes of eight numbers, and nine edges from one to another."""
    return torch.randn(n, 6, 8, generator=g), *(torch.randint(0, 6, (n, 9), generator=g) for _ in range(2))


def linear(i: int, o: int, **options: Any) -> Make:
    return lambda: nn.Linear(i, o, **options)


def convolution(i: int, o: int) -> Make:
    return lambda: nn.Conv2d(i, o, 3, padding=1)


def parameter(*shape: int) -> Callable[[], nn.Parameter]:
    return lambda: nn.Parameter(0.3 * torch.randn(*shape))


class Cases(dict[str, OperatorCase]):
    """Nets by name."""

    def enter(
        self,
        cut: dict[str, int],
        inputs: Callable[..., tuple[Tensor, ...]] = rows,
        form: str = "modules",
        **parts: Any,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Enter a function as the net of its own name."""

        def entered(way: Callable[..., Any]) -> Callable[..., Any]:
            self[way.__name__.replace("_", "-")] = OperatorCase(way, parts, inputs, cut, form)
            return way

        return entered
