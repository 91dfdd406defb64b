"""Signs that a model hides its gradients: Athalye et al., arXiv:1802.00420, section 3.

Shapes use: N samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from autoprune.plugin import Batch, Task
from autoprune.toolkit.samples import divergences, losses, right_shares
from autoprune_evaluators._attack import input_gradient, picked, without_parameter_gradients

_HUGE_LEAVES = 0.1
"""Robust accuracy that no honest model has where an attack may change everything."""
_STRONGER = 0.02
"""By how much an attack that should be weaker has to be the stronger one, so that it is no chance."""
_ZERO = 0.05
_FEW = 8
"""Samples of each batch that are looked at without the rest of it."""
_THE_SAME = 1e-4
"""Divergence that rounding explains, see `Task.divergence`."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Shares of samples: robust accuracies, unless it says otherwise."""

    huge: float
    """Under PGD with half of the inputs' range as its epsilon."""
    fgsm: float
    pgd: float
    dlr: float
    """Under PGD on the difference of logits ratio."""
    square: float
    zero_gradients: float
    """Samples whose loss has an input gradient of 0."""
    dependent: float
    """Samples whose outputs hang on the others of the batch."""


def masking_flags(found: Evidence) -> list[str]:
    """What speaks against the robust accuracy, in words; nothing does for an honest model."""
    weak = found.pgd - _STRONGER
    flags = {
        f"robust accuracy {found.huge:.2f} at a huge epsilon": found.huge > _HUGE_LEAVES,
        f"FGSM leaves {found.fgsm:.2f}, PGD {found.pgd:.2f}": found.fgsm < weak,
        f"Square leaves {found.square:.2f}, PGD {found.pgd:.2f}": found.square < weak,
        f"DLR leaves {found.dlr:.2f}, cross-entropy {found.pgd:.2f}": found.dlr < weak,
        f"{found.zero_gradients:.0%} of the samples have no input gradient": found.zero_gradients > _ZERO,
        f"{found.dependent:.0%} of the samples hang on others of the batch": found.dependent > _ZERO,
    }
    return [told for told, raised in flags.items() if raised]


def oddities(model: nn.Module, batches: Iterable[Batch], *, task: Task) -> tuple[float, float]:
    """Shares of samples without an input gradient, of those predicted right, and of such as hang on their batch."""
    zero, right, dependent, count = 0, 0, 0, 0
    with torch.enable_grad(), without_parameter_gradients(model):
        for inputs, targets in batches:
            first = inputs.first.clone().requires_grad_()
            outputs = inputs.with_first(first).feed(model)
            hit = right_shares(task, outputs, targets) > 0
            gradient = input_gradient(losses(task, outputs, targets).sum(), first)
            zero += int((gradient.flatten(1).abs().amax(1) == 0)[hit].sum())
            right += int(hit.sum())
            few = torch.arange(min(_FEW, len(hit)), device=hit.device)
            apart = divergences(task, inputs[few].feed(model), picked(outputs, few), picked(targets, few))
            dependent, count = dependent + int((apart > _THE_SAME).sum()), count + len(few)
    return zero / max(right, 1), dependent / max(count, 1)
