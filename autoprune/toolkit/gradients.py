"""Gradients of the task's loss with respect to parameters, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from autoprune.toolkit.samples import losses, mean

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.plugin import Batch, Task


def loss_gradients(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], batches: Iterable[Batch], *, task: Task
) -> Iterator[dict[str, Tensor]]:
    """Gradients of the mean loss of each batch, for scores such as gradient times weight.

    Example:
        >>> batches = ctx.data.train.batches(16, samples=512, device=ctx.device, generator=ctx.generator())
        >>> for gradients in loss_gradients(ctx.model, dict(ctx.network.named_parameters()), batches, task=ctx.task):
        ...     squares = gradients["conv1.weight"].square()

    Args:
        model: Takes input units and returns the task's tensor; its mode stays as it is.
        parameters: Those to differentiate by, by any name. They need not require gradients: while the batches run they
            do, and ``grad`` stays as it is. Those that are no floats are passed over.
        batches: Inputs and targets, on the model's device. Gradients of small batches say more than those of a few
            large ones, in which a trained network's cancel out; of batches of one they are each sample's own.
        task: Its loss counts, as it is measured, without what training adds.

    Yields:
        Name to gradient, in the parameter's shape, for each batch; without the parameters that no gradient reaches.
    """
    import torch

    wanted = {name: parameter for name, parameter in parameters.items() if parameter.is_floating_point()}
    needed = {name: parameter.requires_grad for name, parameter in wanted.items()}
    try:
        for parameter in wanted.values():
            parameter.requires_grad_(True)
        for inputs, targets in batches:
            with torch.enable_grad():
                outputs = inputs.feed(model)
                loss = mean(task, losses(task, outputs, targets), outputs, targets)
            if not wanted or not loss.requires_grad:
                yield {}
                continue
            found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
            yield {name: gradient for name, gradient in zip(wanted, found, strict=True) if gradient is not None}
    finally:
        for name, parameter in wanted.items():
            parameter.requires_grad_(needed[name])
