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

    def __init__(
        self,
        network: nn.Module,
        normalization: Normalization | None = None,
        *,
        precision: torch.dtype = torch.float32,
    ) -> None:
        """In front of a network.

        Args:
            network: The bare network.
            normalization: Of the first input.
            precision: Of passes without gradients; others always are in the network's own precision.
        """
        super().__init__()
        self.network = network
        self.precision = precision
        device = next((tensor.device for tensor in network.parameters()), None)
        for name in ("mean", "std"):
            values = None if normalization is None else torch.tensor(getattr(normalization, name), device=device)
            self.register_buffer(name, values, persistent=False)
        self.training = network.training  # and no more: the modes of what is inside are the caller's

    def normalized(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What the network gets: the first input (N, C, …) as ``(x - mean) / std`` per channel, others as they are."""
        if self.mean is None or self.std is None:
            return inputs
        first, *others = inputs
        shape = (1, -1, *[1] * (first.dim() - 2))
        return (first - self.mean.view(shape)) / self.std.view(shape), *others

    def forward(self, *inputs: Tensor) -> Tensor:
        """Class scores (N, classes) of inputs in input units."""
        inputs = self.normalized(inputs)
        if self.precision is torch.float32 or torch.is_grad_enabled():
            return cast("Tensor", self.network(*inputs))
        if inputs[0].dim() == 4:  # convolutions in low precision want channels last
            inputs = (inputs[0].contiguous(memory_format=torch.channels_last), *inputs[1:])
        with torch.autocast(inputs[0].device.type, self.precision):
            return cast("Tensor", self.network(*inputs)).float()
