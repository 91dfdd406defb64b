"""The third party's own modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AcmeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.size, self.colour = nn.Linear(4, 16), nn.Linear(2, 16)
        self.second, self.head = nn.Linear(16, 12), nn.Linear(12, 4)

    def forward(self, *, size: Tensor, colour: Tensor) -> Tensor:
        both = torch.relu(self.size(size) + self.colour(colour))
        return self.head(torch.relu(self.second(both)))  # type: ignore[no-any-return]


class Gated(nn.Module):
    """A layer whose outputs, (N, U), are multiplied by a gate each."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        weight: Tensor = layer.weight  # type: ignore[assignment]
        self.gate = nn.Parameter(torch.ones(len(weight), device=weight.device))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.gate  # type: ignore[no-any-return]
