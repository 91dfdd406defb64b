"""What gradient attacks climb: losses of the right answer, and of a class that a sample is to become.

Shapes use: N samples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from autoprune import DataError, TrialError
from autoprune.plugin import Batch, Task
from autoprune.plugin.task import shapes
from autoprune.toolkit.samples import losses
from autoprune_evaluators._attacking import Loss, Targeted

Climbed = Callable[[Task, Any, Any], Tensor]
"""Of each sample, (N,), from the task, outputs and targets; of a targeted attack, ``{"true": …, "aim": …}``."""
Aim = Callable[[Task, Any, Any], Tensor]
"""From the task, outputs and targets of samples as they are to the class that each is to become, (N,)."""


def logit_ratios(task: Task, outputs: Any, targets: Any) -> Tensor:
    """Difference of logits ratio of each sample, (N,): a loss that does not change with the logits' scale.

    Croce and Hein, *Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks*,
    arXiv:2003.01690, equation 6.

    Args:
        task: Only named.
        outputs: Scores, (N, C), of 3 classes or more.
        targets: Classes, (N,).

    Raises:
        TrialError: They are none.
    """
    _check(task, "loss dlr", 3, outputs, targets, "use loss: cross-entropy")
    top = outputs.topk(3).values
    true = outputs.gather(1, targets[:, None]).squeeze(1)
    other = top[:, 1].where(outputs.argmax(1) == targets, top[:, 0])
    ratios: Tensor = (other - true) / (top[:, 0] - top[:, 2] + 1e-12)
    return ratios


def _toward(task: Task, outputs: Any, wanted: Mapping[str, Tensor]) -> Tensor:
    """The loss of the class that is aimed at, (N,), descended."""
    return -losses(task, outputs, wanted["aim"])


def _ratios_toward(task: Task, outputs: Any, wanted: Mapping[str, Tensor]) -> Tensor:
    """The targeted difference of logits ratio, (N,): equation 7 of arXiv:2003.01690."""
    _check(task, "loss dlr of a targeted attack", 4, outputs, wanted["true"], "use loss: cross-entropy")
    top = outputs.topk(4).values
    true, aim = (outputs.gather(1, wanted[name][:, None]).squeeze(1) for name in ("true", "aim"))
    ratios: Tensor = (aim - true) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)
    return ratios


LOSSES: dict[Loss, Climbed] = {"cross-entropy": losses, "dlr": logit_ratios}
"""What can be climbed, by its option."""
TARGETED_LOSSES: dict[Loss, Climbed] = {"cross-entropy": _toward, "dlr": _ratios_toward}
"""The same of targeted attacks."""


def aim(targeted: Targeted) -> Aim:
    """Which class each sample is to become.

    Returns:
        What raises a `TrialError` where samples have no class each, or there is no such class.
    """

    def classes(task: Task, outputs: Any, targets: Any) -> Tensor:
        _check(task, "a targeted attack", 2, outputs, targets, "leave targeted out")
        count = outputs.shape[1]
        found: Tensor
        if isinstance(targeted, int):
            if targeted >= count:
                raise TrialError(f"targeted is class {targeted}, but the model has 0 to {count - 1}")
            found = targets.new_full(targets.shape, targeted)
        elif targeted == "next":
            found = (targets + 1) % count
        else:
            true = targets[:, None]
            found = outputs.scatter(1, true, outputs.new_full(true.shape, torch.inf)).argmin(1)
        return found

    return classes


def others(batches: Iterable[Batch], target: int) -> Iterator[Batch]:
    """Batches without the samples of a class.

    Raises:
        DataError: None is left.
        TrialError: Targets are no classes.
    """
    left = False
    for inputs, targets in batches:
        if not isinstance(targets, Tensor) or targets.dim() != 1 or targets.is_floating_point():
            raise TrialError(f"a targeted attack is of one class per sample; targets are {shapes(targets)}")
        other = (targets != target).nonzero().squeeze(1)
        if len(other):
            left = True
            yield inputs[other], targets[other]
    if not left:
        raise DataError(f"targeted: all samples are of class {target} already: take another class")


def _check(task: Task, what: str, fewest: int, outputs: Any, targets: Any, advice: str) -> None:
    fits = isinstance(outputs, Tensor) and isinstance(targets, Tensor) and outputs.dim() == 2 and targets.dim() == 1
    if not fits or outputs.shape[1] < fewest or targets.is_floating_point():
        raise TrialError(
            f"{what} is of scores (N, C) of {fewest} classes or more; task {task.name} has outputs {shapes(outputs)}"
            f" and targets {shapes(targets)}: {advice}"
        )
