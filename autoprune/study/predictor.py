"""The network with its normalisation in front: what evaluators, scorers and recoveries call."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import cast

import torch
from torch import Tensor, nn

from autoprune.plugin import Normalization

_SAME = 1e-4
"""Largest deviation, relative to the largest output, that is float32 added up in another order."""


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
        channels_last: bool = False,
    ) -> None:
        """In front of a network.

        Args:
            network: The bare network.
            normalization: Of the first input.
            precision: Of passes without gradients; others always are in the network's own precision.
            channels_last: Whether the network may get images in that layout, see `takes_channels_last`.
        """
        super().__init__()
        self.network = network
        self.precision = precision
        self.channels_last = channels_last
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
        first, *others = self.normalized(inputs)
        low = self.precision is not torch.float32 and not torch.is_grad_enabled()
        # In float32 only a CPU is known to be faster so.
        if self.channels_last and first.dim() == 4 and (low or first.device.type == "cpu"):
            first = first.contiguous(memory_format=torch.channels_last)
        if not low:
            return cast("Tensor", self.network(first, *others))
        with torch.autocast(first.device.type, self.precision):
            return cast("Tensor", self.network(first, *others)).float()


def takes_channels_last(networks: Iterable[nn.Module], inputs: tuple[Tensor, ...]) -> bool:
    """Whether networks predict the same of images that have their channels last in memory.

    Convolutions are faster so. Code that views a map as a vector, though, raises an error.

    Args:
        networks: Bare ones, in ``eval()``.
        inputs: A few samples as they take them; images are (N, C, H, W).
    """
    first, *others = inputs
    if first.dim() != 4:
        return False
    last = first.contiguous(memory_format=torch.channels_last)
    return all(predicts_the_same(network, network, inputs, (last, *others)) for network in networks)


def predicts_the_same(
    network: nn.Module, other: nn.Module, inputs: tuple[Tensor, ...], others: tuple[Tensor, ...] | None = None
) -> bool:
    """Whether outputs differ by no more than float32 added up in another order.

    Args:
        network: A bare one, in ``eval()``.
        other: What may take its place; an error of its own is a difference.
        inputs: A few samples as the network takes them.
        others: The same samples as the other one takes them; ``inputs`` if None.
    """
    same = False
    with suppress(Exception), torch.no_grad():  # whatever the model's code may raise
        output, made = network(*inputs), other(*(inputs if others is None else others))
        same = bool((output - made).abs().max() <= _SAME * output.abs().max())  # not a number is not the same
    return same
