"""Nets of what is sorted, the largest of it and experts picked by it; a gate over a weight."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .operator_nets import OperatorCase, rows, steps


def _experts(m: Any, x: Tensor) -> Tensor:
    """A mixture of experts: every row is multiplied by the matrices of its own."""
    x = F.relu(m.i(x))
    weight, expert = m.r(x).softmax(-1).topk(1)
    made = F.relu(torch.bmm(m.up[expert.view(-1)], x[..., None]))
    return m.o(x + torch.bmm(m.down[expert.view(-1)], made).squeeze(-1) * weight)


def _gated_weight(m: Any, x: Tensor) -> Tensor:
    """A gate over the weight of a layer: its rows go in pairs, its columns as they come."""
    return m.o(F.linear(F.relu(m.i(x)), F.glu(m.w, 0)))


def _stack(*shape: int) -> nn.Parameter:
    return nn.Parameter(0.3 * torch.randn(*shape))


EXPERTS = {
    "i": lambda: nn.Linear(8, 16),
    "r": lambda: nn.Linear(16, 3),
    "up": lambda: _stack(3, 24, 16),
    "down": lambda: _stack(3, 16, 24),
    "o": lambda: nn.Linear(16, 3),
}
CASES = {
    "largest-steps": OperatorCase(
        lambda m, x: m.o(m.i(x).topk(2, dim=1).values.flatten(1)),
        {"i": lambda: nn.Linear(6, 12), "o": lambda: nn.Linear(24, 3)},
        steps,
        {"i": 12},
        "modules",
    ),
    "largest-units": OperatorCase(
        lambda m, x: m.o(m.i(x).topk(4).values),
        {"i": lambda: nn.Linear(8, 12), "o": lambda: nn.Linear(4, 3)},
        rows,
        {},
        "modules",
    ),
    "steps-in-order": OperatorCase(
        lambda m, x: m.o(torch.sort(m.i(x), stable=True, dim=1).values),
        {"i": lambda: nn.Linear(6, 12), "o": lambda: nn.Linear(12, 3)},
        steps,
        {"i": 12},
        "modules",
    ),
    "gated-weight": OperatorCase(
        _gated_weight,
        {"i": lambda: nn.Linear(8, 12), "w": lambda: _stack(10, 12), "o": lambda: nn.Linear(5, 3)},
        rows,
        {"i": 12, "w": 5},
        "modules",
    ),
    "picked-experts": OperatorCase(_experts, EXPERTS, rows, {"i": 16, "up": 24}, "modules"),
}
