"""One class per pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoprune import TrialError
from autoprune.plugin.task import shapes
from autoprune_tasks._positions import PositionsTask
from autoprune_tasks._refusals import FOR_TOKENS, no_scores, no_single_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Data

_TAKES = "segmentation takes outputs (N, C, …), C scores for each position, and as many classes, targets (N, …) int64"


class Segmentation(PositionsTask):
    """One class at each position of a sample: outputs are scores (N, C, …), targets int64 of shape (N, …).

    Positions are pixels, points or steps; those whose target is ``ignore_index`` count nowhere. The loss is the
    cross-entropy in nats, and the distance of two models the Kullback-Leibler divergence, both the mean over a sample's
    positions that count.
    """

    name = "segmentation"

    def refuses(self, outputs: Tensor, targets: Any, data: Data) -> str | None:
        """Why a batch has not one class for each position, and what to write; None when it has."""
        return (
            no_scores(outputs, _TAKES)
            or no_single_tensor(targets, _TAKES)
            or _wrong_kind(outputs, targets)
            or _unpaired(outputs, targets)
            or self._unanswered(outputs, targets, data)
        )

    def _scores(self, outputs: Tensor, targets: Tensor | None) -> Tensor:
        if targets is not None and (fault := _unpaired(outputs, targets)):
            raise TrialError(f"{self.name}: {fault}")
        return outputs.reshape(*outputs.shape[:2], -1).transpose(1, 2)

    def _classes(self, targets: Tensor) -> Tensor:
        return targets.reshape(len(targets), -1)

    def _outside(self, classes: Tensor, count: int) -> str | None:
        fault = super()._outside(classes, count)
        if fault and "class 255," in fault:  # as masks for the eye have their foreground, and others what is unknown
            return f"{fault}; if 255 is a class, the data's option values says of which grey each class is: [0, 255]"
        return fault


def _wrong_kind(outputs: Tensor, targets: Tensor) -> str | None:
    import torch

    came = f"targets are {shapes(targets)} and outputs {shapes(outputs)}; {_TAKES}"
    if outputs.dim() < 2 or outputs.shape[1] == 1:
        return f"{came}: for a yes or no at each write task: {{use: multilabel}}, for numbers {{use: regression}}"
    if targets.is_floating_point() or targets.shape == outputs.shape:
        return f"{came}: for several classes at each write task: {{use: multilabel}}, for numbers {{use: regression}}"
    if targets.dtype != torch.int64:
        return f"{came}: let the data give classes as int64"
    if outputs.dim() == 3 and outputs.shape[:2] == targets.shape != (outputs.shape[0], outputs.shape[2]):
        return f"{came}: {FOR_TOKENS}"
    return None


def _unpaired(outputs: Tensor, targets: Tensor) -> str | None:
    """Why there is not one target for each position."""
    wanted = (outputs.shape[0], *outputs.shape[2:])
    if targets.shape == wanted:
        return None
    came = f"targets are {shapes(targets)} and outputs {shapes(outputs)}"
    if targets.shape == (wanted[0], 1, *wanted[1:]):
        return f"{came}: let the data give targets without the second dimension, {wanted}"
    return f"{came}: targets {wanted} are needed; resize masks to the outputs' size, or the outputs in the model"
