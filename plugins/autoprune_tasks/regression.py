"""Numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoprune import TrialError
from autoprune.plugin import Task
from autoprune.plugin.task import shapes

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Data

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

    def divergence(self, outputs: Tensor, dense: Tensor, targets: Any = None) -> Tensor:  # noqa: ARG002  all count
        """Squared difference in units of the dense outputs' variance, the mean over a sample's numbers, (N,), float64.

        The variance is each number's own, over the batch. A number that is the same for all samples (all are, in a
        batch of one) is measured in units of its square, and one that is 0 for all of them in its own.
        """
        theirs = dense.double()
        unit, square = theirs.var(0, correction=0), theirs.square().mean(0)
        unit = unit.where(unit > _CONSTANT * square, square)
        return _means((outputs.double() - theirs).square() / unit.where(unit > 0, 1.0))

    def agreement(self, outputs: Tensor, dense: Tensor, targets: Any = None) -> Tensor:  # noqa: ARG002  all count
        """1 / (1 + divergence), (N,): 1 where both models say the same, a half where they are one deviation apart."""
        return 1 / (1 + self.divergence(outputs, dense))

    def refuses(self, outputs: Tensor, targets: Any, data: Data) -> str | None:  # noqa: ARG002  classes may be counted
        """Why a batch holds no numbers to compare, and what to write; None when it does."""
        import torch

        came = f"targets are {shapes(targets)} and outputs {shapes(outputs)}"
        if not isinstance(targets, torch.Tensor):
            return (
                f"{came}; regression takes one tensor of targets: a plugin can bring a task, see docs/plugins/task.md"
            )
        if not outputs.is_floating_point() or not targets.is_floating_point():
            return f"{came}; regression takes floats: for classes write task: {{use: classification}}"
        return _unpaired(outputs, targets)


def _unpaired(outputs: Tensor, targets: Tensor) -> str | None:
    """Why they cannot be compared number by number; broadcasting would compare every sample with every other."""
    one_each = outputs.shape[:1] == targets.shape[:1] == (outputs.numel(),) == (targets.numel(),)
    if outputs.dim() and (outputs.shape == targets.shape or one_each):
        return None
    return (
        f"targets are {shapes(targets)} and outputs {shapes(outputs)}; regression takes the same shape of both:"
        " let the data give targets in the shape of the outputs"
    )


def _means(values: Tensor) -> Tensor:
    """Mean over all but the first dimension, (N,)."""
    return values.flatten(1).mean(1) if values.dim() > 1 else values
