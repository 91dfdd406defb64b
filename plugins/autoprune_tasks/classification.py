"""One class per sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Task
from autoprune.plugin.task import shapes

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Data

_ELSE = "classification takes one class per sample, outputs (N, C) and targets (N,) int64"
_PLUGIN = "a plugin can bring a task for it, see docs/plugins/task.md"


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
        from torch.nn.functional import kl_div, log_softmax

        ours, theirs = (log_softmax(scores.double(), dim=1) for scores in (outputs, dense))
        # Rounding may push the divergence of equals below 0.
        return kl_div(ours, theirs, reduction="none", log_target=True).sum(1).clamp_min(0)

    def agreement(self, outputs: Tensor, dense: Tensor, targets: Any = None) -> Tensor:  # noqa: ARG002  all count
        """1 where both models predict the same class, 0 elsewhere, (N,)."""
        return (outputs.argmax(1) == dense.argmax(1)).float()

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """1 where the largest score is the target's and no score is NaN, 0 elsewhere, (N,).

        Raises:
            TrialError: A class is not among 0 … C - 1.
        """
        _check_classes(targets, outputs.shape[1])
        return ((outputs.argmax(1) == targets) & ~outputs.isnan().any(1)).float()

    def refuses(self, outputs: Tensor, targets: Any, data: Data) -> str | None:
        """Why a batch is no classification with one class per sample, and what to write; None when it is."""
        if fault := _wrong_outputs(outputs, targets) or _wrong_targets(outputs, targets):
            return fault
        classes = outputs.shape[1]
        if data.classes is not None and data.classes > classes:
            return f"the data has {data.classes} classes, but the model has {classes} outputs, {shapes(outputs)}"
        return _outside(targets, classes)

    def _cross_entropy(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        from torch.nn.functional import cross_entropy

        _check_classes(targets, outputs.shape[1])
        return cross_entropy(outputs, targets, reduction="none", label_smoothing=label_smoothing)


def _wrong_outputs(outputs: Tensor, targets: Any) -> str | None:
    came = f"outputs are {shapes(outputs)}"
    if not outputs.is_floating_point():
        return f"{came}; {_ELSE}: return scores, not classes"
    if outputs.dim() == 1 or (outputs.dim() == 2 and outputs.shape[1] == 1):
        return (
            f"{came}, one number per sample, and targets {shapes(targets)}; {_ELSE} with C of 2 or more: where numbers"
            " are predicted write task: {use: regression}, and for two classes give the model two outputs"
        )
    if outputs.dim() != 2:
        return f"{came} and targets {shapes(targets)}; {_ELSE}: {_PLUGIN}"
    return None


def _wrong_targets(outputs: Tensor, targets: Any) -> str | None:
    import torch

    came = f"targets are {shapes(targets)} and outputs {shapes(outputs)}; {_ELSE}"
    if isinstance(targets, Mapping) or not isinstance(targets, torch.Tensor):
        return f"{came}: {_PLUGIN}"
    if targets.is_floating_point():
        if targets.shape == outputs.shape:
            return (
                f"{came}: for numbers write task: {{use: regression}}; for several classes per sample (multi-hot)"
                f" {_PLUGIN}"
            )
        return f"{came}: for numbers write task: {{use: regression}}, and classes as int64"
    if targets.dim() == 2 and targets.shape[1] == 1:
        return f"{came}: let the data give them without the second dimension"
    if targets.dim() != 1:
        return f"{came}: {_PLUGIN}"
    if targets.dtype != torch.int64:
        return f"{came}: let the data give classes as int64"
    if len(targets) != len(outputs):
        return f"{came}, the same number of both"
    return None


def _outside(targets: Tensor, classes: int) -> str | None:
    import torch

    if not len(targets):
        return None
    low, high = torch.stack(targets.aminmax()).tolist()  # a GPU is waited for once
    if low >= 0 and high < classes:
        return None
    wrong = low if low < 0 else high
    return f"a target is class {wrong}, but the model has {classes} outputs: classes are 0 to {classes - 1}"


def _check_classes(targets: Tensor, classes: int) -> None:
    """Asked before the loss is: on a GPU a class too many would take the process along."""
    if fault := _outside(targets, classes):
        raise TrialError(f"classification: {fault}")
