"""The network with its normalisation in front: what evaluators, scorers and recoveries call."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from autoprune.plugin import Normalization


class Predictor(nn.Module):
    """Takes inputs in input units, normalises the first one and calls the bare network.

    The network's tensors are shared, not copied. Mean and deviation are buffers, so that they follow the device.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(self, network: nn.Module, normalization: Normalization | None = None) -> None:
        super().__init__()
        self.network = network
        device = next((tensor.device for tensor in network.parameters()), None)
        for name in ("mean", "std"):
            values = None if normalization is None else torch.tensor(getattr(normalization, name), device=device)
            self.register_buffer(name, values, persistent=False)
        self.train(network.training)

    def normalized(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What the network gets: the first input (N, C, …) as ``(x - mean) / std`` per channel, others as they are."""
        if self.mean is None or self.std is None:
            return inputs
        first, *others = inputs
        shape = (1, -1, *[1] * (first.dim() - 2))
        return (first - self.mean.view(shape)) / self.std.view(shape), *others

    def forward(self, *inputs: Tensor) -> Tensor:
        """Class scores (N, classes) of inputs in input units."""
        return cast("Tensor", self.network(*self.normalized(inputs)))
