"""An attack that sees no scores: members stay right under more noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from autoprune.plugin import Inputs, Task
from autoprune.toolkit.samples import right_shares


def robustness(
    model: nn.Module,
    inputs: Inputs,
    targets: Any,
    *,
    task: Task,
    deviations: Tensor,
    bounds: tuple[float, float] | None,
    generator: torch.Generator,
) -> Tensor:
    """Share of a sample's predictions that are right, with Gaussian noise on the first input, (N,); 0 if none without.

    The more noise a prediction bears, the farther the sample is from the decision boundary. Choquette-Choo et al.,
    *Label-only membership inference attacks*, arXiv:2007.14321.

    Args:
        model: Takes inputs in input units.
        inputs: N samples.
        targets: True ones.
        task: Says what is right.
        deviations: Of the noise of each query, (K,), in input units.
        bounds: Smallest and largest legal value of the first input, if it has such.
        generator: Draws the noise, on the CPU.

    Raises:
        TrialError: The task knows no right and wrong.
    """
    plain = right_shares(task, inputs.feed(model), targets).double()
    right = plain.clone()
    for deviation in deviations.tolist():
        noise = torch.randn(inputs.first.shape, generator=generator).to(inputs.first)
        noisy = inputs.first + deviation * noise
        noisy = noisy if bounds is None else noisy.clamp(*bounds)
        right += right_shares(task, inputs.with_first(noisy).feed(model), targets).double()
    return plain * right / (1 + len(deviations))
