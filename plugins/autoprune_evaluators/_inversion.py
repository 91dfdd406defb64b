"""Inputs that a model takes for a class most surely.

Shapes use: C classes, and … for whatever an input is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from autoprune import TrialError


def reconstructed(
    model: nn.Module,
    classes: Tensor,
    start: Tensor,
    *,
    loss: Callable[[Any, Tensor], Tensor],
    steps: int,
    rate: float,
    bounds: tuple[float, float] | None,
) -> Tensor:
    """What gradient steps make of inputs, (C, …).

    Args:
        model: Takes inputs in input units.
        classes: That are looked for, int64 of shape (C,).
        start: Where they begin, (C, …).
        loss: Of outputs and classes, (C,).
        steps: How many.
        rate: What gradients are multiplied with.
        bounds: Smallest and largest legal value, if inputs have such.

    Raises:
        TrialError: The model has no gradients.
    """
    # In a search gradients may be off; what was fetched in inference mode takes no part in them.
    with torch.inference_mode(mode=False), torch.enable_grad():
        inputs, classes = start.clone(), classes.clone()
        for _ in range(steps):
            inputs.requires_grad_()
            total = loss(model(inputs), classes).sum()
            gradient = torch.autograd.grad(total, inputs, allow_unused=True)[0] if total.requires_grad else None
            if gradient is None:
                raise TrialError("model-inversion: the outputs have no gradient to the inputs: nothing can be inverted")
            inputs = (inputs - rate * gradient).detach()
            inputs = inputs if bounds is None else inputs.clamp(*bounds)
    return inputs
