"""The network with its normalisation in front and the task's tensor picked: what evaluators and recoveries call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.errors import TrialError
from autoprune.plugin import Inputs, Normalization, Task
from autoprune.structure.verify.predictions import predicts_the_same


class Predictor(nn.Module):
    """Takes inputs in input units, normalises the first one, calls the bare network and picks the task's tensor.

    The network's tensors are shared, not copied. Mean and deviation are buffers, so that they follow the device.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        normalization: Normalization | None = None,
        *,
        task: Task | None = None,
        precision: torch.dtype = torch.float32,
        channels_last: bool = False,
    ) -> None:
        """In front of a network.

        Args:
            network: The bare network.
            normalization: Of the first input.
            task: Says which tensor counts; whatever the network returns if None.
            precision: Of passes without gradients; others always are in the network's own precision.
            channels_last: Whether the network may get images in that layout, see `takes_channels_last`.
        """
        super().__init__()
        self.network = network
        self.task = task
        self.precision = precision
        self.channels_last = channels_last
        device = next((tensor.device for tensor in network.parameters()), None)
        for name in ("mean", "std"):
            values = None if normalization is None else torch.tensor(getattr(normalization, name), device=device)
            self.register_buffer(name, values, persistent=False)
        self.training = network.training  # and no more: the modes of what is inside are the caller's

    def normalized(self, inputs: Inputs) -> Inputs:
        """What the network gets: the first input (N, C, …) as ``(x - mean) / std`` per channel, others as they are."""
        if self.mean is None or self.std is None:
            return inputs
        shape = (1, -1, *[1] * (inputs.first.dim() - 2))
        return inputs.with_first((inputs.first - self.mean.view(shape)) / self.std.view(shape))

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Any:
        """The task's tensor, N samples first, of inputs in input units.

        Raises:
            TrialError: It is NaN somewhere, in a pass without gradients; or it is not there.
        """
        inputs = self.normalized(Inputs(args, kwargs))
        first, predicts = inputs.first, not torch.is_grad_enabled()
        low = self.precision is not torch.float32 and predicts
        # In float32 only a CPU is known to be faster so.
        if self.channels_last and first.dim() == 4 and (low or first.device.type == "cpu"):
            inputs = inputs.with_first(first.contiguous(memory_format=torch.channels_last))
        if low:
            with torch.autocast(first.device.type, self.precision):
                returned = inputs.feed(self.network)
        else:
            returned = inputs.feed(self.network)
        outputs = returned if self.task is None else self.task.pick(returned)
        if low:
            outputs = pytree.tree_map_only(Tensor, lambda t: t.float() if t.is_floating_point() else t, outputs)
        if predicts and any(_nan(leaf) for leaf in pytree.tree_leaves(outputs)):
            raise TrialError("the model's outputs are NaN")
        return outputs


def _nan(output: Any) -> bool:
    """Whether a tensor holds NaN. A sum is a fraction of the work, and finite where nothing is."""
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return False
    return bool(output.sum().isnan()) and bool(output.isnan().any())


def takes_channels_last(networks: Iterable[nn.Module], inputs: Inputs) -> bool:
    """Whether networks predict the same of images that have their channels last in memory.

    Convolutions are faster so. Code that views a map as a vector, though, raises an error.

    Args:
        networks: Bare ones, in ``eval()``.
        inputs: A few samples as they take them; images are (N, C, H, W).
    """
    if inputs.first.dim() != 4:
        return False
    last = inputs.with_first(inputs.first.contiguous(memory_format=torch.channels_last))
    return all(predicts_the_same(network, network, inputs, last) for network in networks)
