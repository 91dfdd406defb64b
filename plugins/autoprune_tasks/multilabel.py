"""Any number of labels per sample."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Task
from autoprune.plugin.task import shapes
from autoprune_tasks._refusals import FOR_POSITIONS, ignored, no_scores, no_single_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Data

_TAKES = "multilabel takes scores (N, L), one for each label, and targets of the same shape, 0 or 1"
_ENOUGH = 16
"""Outputs that cannot all lie in [0, 1] by chance, if they are scores."""


class Multilabel(Task):
    """Each sample has any of L labels: outputs are scores (N, L) before the sigmoid, targets 0 or 1 of the same shape.

    Labels are apart from each other, and may be of several dimensions (N, …), such as those of pixels; (N, 1) and (N,)
    are the same, one yes or no per sample. Those whose target is ``ignore_index``, because nobody knows, count nowhere.
    The loss is the binary cross-entropy in nats, and the distance of two models the Kullback-Leibler divergence, both
    the mean over a sample's labels.
    """

    name = "multilabel"

    threshold: float = Field(
        default=0.5, gt=0, lt=1, description="A label is predicted where its probability is above it."
    )
    ignore_index: int = Field(default=-100, description="Labels with this target count nowhere.")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy in nats, the mean over a sample's labels that count, (N,).

        Args:
            outputs: Scores, (N, L).
            targets: 0, 1 or ``ignore_index``, of any type, (N, L).

        Raises:
            TrialError: The shapes differ, or a target is something else.
        """
        from torch.nn.functional import binary_cross_entropy_with_logits

        from autoprune_tasks._rows import precise, sample_means

        scores, labels, counting = self._labelled(outputs, targets)
        scores = precise(scores)
        each = binary_cross_entropy_with_logits(scores, labels.to(scores.dtype), reduction="none")
        return sample_means(each, counting)

    def divergence(self, outputs: Tensor, dense: Tensor, targets: Any = None) -> Tensor:
        """Kullback-Leibler divergence of each label's distribution from the dense model's in nats, (N,), float64.

        The mean over a sample's labels that count; over all of them without targets.
        """
        from torch.nn.functional import logsigmoid

        from autoprune_tasks._rows import sample_means

        ours, theirs, counting = self._compared(outputs, dense, targets)
        ours, theirs = ours.double(), theirs.double()
        yes, no = theirs.sigmoid(), (-theirs).sigmoid()
        # What the dense model rules out counts 0. Rounding may push equals below it.
        of_yes = (yes * (logsigmoid(theirs) - logsigmoid(ours))).masked_fill(yes == 0, 0)
        of_no = (no * (logsigmoid(-theirs) - logsigmoid(-ours))).masked_fill(no == 0, 0)
        return sample_means((of_yes + of_no).clamp_min(0), counting)

    def agreement(self, outputs: Tensor, dense: Tensor, targets: Any = None) -> Tensor:
        """Share of a sample's labels that count which both models predict alike, (N,)."""
        from autoprune_tasks._rows import sample_means

        ours, theirs, counting = self._compared(outputs, dense, targets)
        return sample_means((self._predicted(ours) == self._predicted(theirs)).float(), counting)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Share of a sample's labels that count which are predicted right, (N,); those with a NaN score are not.

        Raises:
            TrialError: As for the loss.
        """
        from autoprune_tasks._rows import sample_means

        scores, labels, counting = self._labelled(outputs, targets)
        right = (self._predicted(scores) == (labels == 1)) & ~scores.isnan()
        return sample_means(right.float(), counting)

    def counted(self, outputs: Tensor, targets: Any) -> Tensor:
        """Labels of each sample that count, (N,), int64."""
        return self._counting(outputs, targets).sum(1)

    def refuses(self, outputs: Tensor, targets: Any, data: Data) -> str | None:  # noqa: ARG002  classes may be counted
        """Why a batch has not one yes or no for each output, and what to write; None when it has."""
        fault = no_scores(outputs, _TAKES) or no_single_tensor(targets, _TAKES) or _unpaired(outputs, targets)
        if fault:
            return fault
        counting = self._counting(outputs, targets)
        if fault := ignored(counting, self.ignore_index):
            return fault
        if len(outputs.flatten()) >= _ENOUGH and bool(((outputs >= 0) & (outputs <= 1)).all()):
            return (
                f"outputs are {shapes(outputs)}, all of them from 0 to 1, as probabilities are; {_TAKES}: leave the"
                " sigmoid out of the model"
            )
        return self._unlabelled(_elements(targets)[counting])

    def faulty(self, targets: Tensor, outputs: Tensor) -> str | None:  # noqa: ARG002  whatever the model says
        """Which target is neither 0 nor 1; None when all that count are."""
        return self._unlabelled(targets[targets != self.ignore_index])

    def _predicted(self, scores: Tensor) -> Tensor:
        return scores > math.log(self.threshold / (1 - self.threshold))

    def _counting(self, outputs: Tensor, targets: Tensor | None) -> Tensor:
        """Which labels count, bool of shape (N, L)."""
        import torch

        if targets is None:
            return torch.ones_like(_elements(outputs), dtype=torch.bool)
        if fault := _unpaired(outputs, targets):
            raise TrialError(f"multilabel: {fault}")
        return _elements(targets) != self.ignore_index

    def _labelled(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores and targets of the labels that count, both (M,), and which of all do, (N, L)."""
        counting = self._counting(outputs, targets)
        labels = _elements(targets)[counting]
        if fault := self._unlabelled(labels):
            raise TrialError(f"multilabel: {fault}")
        return _elements(outputs)[counting], labels, counting

    def _compared(self, outputs: Tensor, dense: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of both models of the labels that count, (M,), and which of all do, (N, L)."""
        counting = self._counting(outputs, targets)
        return _elements(outputs)[counting], _elements(dense)[counting], counting

    def _unlabelled(self, labels: Tensor) -> str | None:
        """Which target is neither yes nor no; None where all are."""
        wrong = labels[(labels != 0) & (labels != 1)]
        if not len(wrong):
            return None
        return (
            f"a target is {wrong[0].item():g}; {_TAKES}, or {self.ignore_index}, the option ignore_index, where nobody"
            " knows: for numbers write task: {use: regression}"
        )


def _unpaired(outputs: Tensor, targets: Tensor) -> str | None:
    """Why there is not one target for each output; broadcasting would compare every label with every other."""
    given, taken = tuple(outputs.shape), tuple(targets.shape)
    if given and taken and (given == taken or given == _column(taken) or taken == _column(given)):
        return None
    came = f"targets are {shapes(targets)} and outputs {shapes(outputs)}; {_TAKES}"
    if len(given) > 1 and taken == given[:1] and not targets.is_floating_point():
        return f"{came}: for one class per sample write task: {{use: classification}}"
    if len(given) > 2 and taken == (given[0], *given[2:]):
        return f"{came}: {FOR_POSITIONS}"
    return f"{came}: let the data give targets in the shape of the outputs"


def _column(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The same with a second dimension of one: the single channel of a mask, the single output for a sample."""
    return (*shape[:1], 1, *shape[1:])


def _elements(tensor: Tensor) -> Tensor:
    """(N, …) as (N, L)."""
    return tensor.reshape(len(tensor), -1)
