"""One class per sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Task
from autoprune.plugin.task import shapes
from autoprune_tasks._refusals import FOR_POSITIONS, FOR_TOKENS, no_scores, no_single_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Data

_TAKES = "classification takes one class per sample, outputs (N, C) and targets (N,) int64"


class Classification(Task):
    """Each sample is of one class: outputs are scores (N, C), of which the largest says the class; targets int64 (N,).

    The loss is the cross-entropy in nats, and the distance of two models the Kullback-Leibler divergence.
    """

    name = "classification"

    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the targets that training spreads over all classes; what is measured has none.",
    )

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats, (N,).

        Args:
            outputs: Scores, (N, C).
            targets: Classes, int64 of shape (N,).

        Raises:
            TrialError: A class is not among 0 … C - 1.
        """
        return self._cross_entropy(outputs, targets)

    def training_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy with smoothed targets, (N,). Szegedy et al., arXiv:1512.00567."""
        return self._cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)

    def divergence(self, outputs: Tensor, dense: Tensor, targets: Any = None) -> Tensor:  # noqa: ARG002  all count
        """Kullback-Leibler divergence of the predicted distribution from the dense model's, in nats, (N,), float64."""
        from autoprune_tasks._rows import relative_entropies

        return relative_entropies(outputs, dense)

    def agreement(self, outputs: Tensor, dense: Tensor, targets: Any = None) -> Tensor:  # noqa: ARG002  all count
        """1 where both models predict the same class, 0 elsewhere, (N,)."""
        from autoprune_tasks._rows import same_classes

        return same_classes(outputs, dense)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """1 where the largest score is the target's and no score is NaN, 0 elsewhere, (N,).

        Raises:
            TrialError: A class is not among 0 … C - 1.
        """
        from autoprune_tasks._rows import right_classes

        _check_classes(targets, outputs.shape[1])
        return right_classes(outputs, targets)

    def refuses(self, outputs: Tensor, targets: Any, data: Data) -> str | None:
        """Why a batch is no classification with one class per sample, and what to write; None when it is."""
        from autoprune_tasks._rows import outside

        fault = no_scores(outputs, _TAKES) or no_single_tensor(targets, _TAKES) or _wrong_shapes(outputs, targets)
        if fault:
            return fault
        classes = outputs.shape[1]
        if data.classes is not None and data.classes > classes:
            return f"the data has {data.classes} classes, but the model has {classes} outputs, {shapes(outputs)}"
        return outside(targets, classes)

    def faulty(self, targets: Tensor, outputs: Tensor) -> str | None:
        """Which target is no class of the model's; None when all are."""
        from autoprune_tasks._rows import outside

        return outside(targets, outputs.shape[1])

    def _cross_entropy(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        from autoprune_tasks._rows import cross_entropies

        _check_classes(targets, outputs.shape[1])
        return cross_entropies(outputs, targets, label_smoothing=label_smoothing)


def _wrong_shapes(outputs: Tensor, targets: Tensor) -> str | None:
    import torch

    came = f"targets are {shapes(targets)} and outputs {shapes(outputs)}; {_TAKES}"
    if outputs.dim() == 1 or (outputs.dim() == 2 and outputs.shape[1] == 1):
        return (
            f"{came} with C of 2 or more: for one number per sample write task: {{use: regression}}, for a yes or no"
            " {use: multilabel}"
        )
    if outputs.shape == targets.shape:
        return f"{came}: for several classes each, write task: {{use: multilabel}}, for numbers {{use: regression}}"
    if targets.is_floating_point():
        return f"{came}: for numbers write task: {{use: regression}}, and let the data give classes as int64"
    if outputs.dim() == 3 and targets.shape == outputs.shape[:2] != (outputs.shape[0], outputs.shape[2]):
        return f"{came}: {FOR_TOKENS}"
    if outputs.dim() > 2:
        return f"{came}: {FOR_POSITIONS}" if targets.dim() > 1 else f"{came}: let the model pool what it returns"
    if targets.dim() == 2 and targets.shape[1] == 1:
        return f"{came}: let the data give them without the second dimension"
    if targets.dim() != 1 or len(targets) != len(outputs):
        return f"{came}: let the data give one class for each sample"
    if targets.dtype != torch.int64:
        return f"{came}: let the data give classes as int64"
    return None


def _check_classes(targets: Tensor, classes: int) -> None:
    from autoprune_tasks._rows import outside

    if fault := outside(targets, classes):
        raise TrialError(f"classification: {fault}")
