"""Numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoprune import TrialError
from autoprune.plugin import Task
from autoprune.plugin.task import shapes
from autoprune_tasks._refusals import FOR_POSITIONS, FOR_TOKENS, no_single_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Data

_TAKES = "regression takes the same shape of both, floats"
_CONSTANT = 1e-10
"""Variance, of the mean square, below which an output counts as the same for all samples: float32 tells no more."""


class Regression(Task):
    """Numbers are predicted: outputs (N, …) and targets of the same shape, both floats; (N, 1) and (N,) are the same.

    The loss is the mean squared error. Two models are compared in units of the dense outputs' variance, so that neither
    the scale nor the offset of the numbers matters. Nothing is right or wrong: there is no accuracy.
    """

    name = "regression"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Squared error, the mean over a sample's numbers, (N,).

        Args:
            outputs: Predicted numbers, (N, …).
            targets: True ones, (N, …).

        Raises:
            TrialError: Their shapes differ.
        """
        if fault := _unpaired(outputs, targets):
            raise TrialError(f"regression: {fault}")
        return _means((outputs - targets.reshape(outputs.shape)).square())

    def training_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The same in units of the targets' variance over the batch, (N,): a learning rate then suits any scale."""
        if fault := _unpaired(outputs, targets):
            raise TrialError(f"regression: {fault}")
        true = targets.reshape(outputs.shape)
        return _means((outputs - true).square() / _units(true))

    def divergence(self, outputs: Tensor, dense: Tensor, targets: Any = None) -> Tensor:  # noqa: ARG002  all count
        """Squared difference in units of the dense outputs' variance, the mean over a sample's numbers, (N,), float64.

        The variance is each number's own, over the batch. A number that is the same for all samples (all are, in a
        batch of one) is measured in units of its square, and one that is 0 for all of them in its own.
        """
        theirs = dense.double()
        return _means((outputs.double() - theirs).square() / _units(theirs))

    def agreement(self, outputs: Tensor, dense: Tensor, targets: Any = None) -> Tensor:  # noqa: ARG002  all count
        """1 / (1 + divergence), (N,): 1 where both models say the same, a half where they are one deviation apart."""
        return 1 / (1 + self.divergence(outputs, dense))

    def refuses(self, outputs: Tensor, targets: Any, data: Data) -> str | None:  # noqa: ARG002  classes may be counted
        """Why a batch holds no numbers to compare, and what to write; None when it does."""
        if fault := no_single_tensor(targets, _TAKES):
            return fault
        came = f"targets are {shapes(targets)} and outputs {shapes(outputs)}; {_TAKES}"
        if not outputs.is_floating_point():
            return f"{came}: return numbers, not classes"
        if not targets.is_floating_point():
            return f"{came}: {_for_classes(outputs, targets)}, and let the data give numbers as floats"
        return _unpaired(outputs, targets)

    def faulty(self, targets: Tensor, outputs: Tensor) -> str | None:  # noqa: ARG002  whatever the model says
        """Which target is no number; None when all are."""
        wrong = targets[~targets.isfinite()]
        return f"a target is {wrong[0].item()}: leave the sample out, or fill it in" if len(wrong) else None


def _for_classes(outputs: Tensor, targets: Tensor) -> str:
    if outputs.shape == targets.shape:
        return "for 0 and 1 write task: {use: multilabel}"
    if outputs.dim() < 3:
        return "for classes write task: {use: classification}"
    if targets.shape == outputs.shape[:2]:
        return FOR_TOKENS
    return FOR_POSITIONS


def _unpaired(outputs: Tensor, targets: Tensor) -> str | None:
    """Why they cannot be compared number by number; broadcasting would compare every sample with every other."""
    one_each = outputs.shape[:1] == targets.shape[:1] == (outputs.numel(),) == (targets.numel(),)
    if outputs.dim() and (outputs.shape == targets.shape or one_each):
        return None
    return (
        f"targets are {shapes(targets)} and outputs {shapes(outputs)}; {_TAKES}: let the data give targets in the shape"
        " of the outputs"
    )


def _units(numbers: Tensor) -> Tensor:
    """Variance of each number over the samples; its mean square where it is the same for all, 1 where it is 0."""
    unit, square = numbers.var(0, correction=0), numbers.square().mean(0)
    unit = unit.where(unit > _CONSTANT * square, square)
    return unit.where(unit > 0, 1.0)


def _means(values: Tensor) -> Tensor:
    """Mean over all but the first dimension, (N,)."""
    return values.flatten(1).mean(1) if values.dim() > 1 else values
