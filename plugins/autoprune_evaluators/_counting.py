"""What every element of a batch is scored and what it is: classes and labels, laid out the same for all metrics.

Shapes use: N samples of M elements each, C classes or labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autoprune import TrialError
from autoprune.plugin import Task
from autoprune.toolkit.samples import right_shares
from autoprune_evaluators._passes import came


@dataclass(frozen=True)
class Elements:
    """Scores and targets of a batch."""

    scores: Tensor
    """(N, C, M), before a softmax or sigmoid."""
    targets: Tensor
    """Classes (N, M), 0 where they do not count; of several labels per sample 0 or 1, (N, C, M)."""
    counting: Tensor
    """Which of the targets count, bool, in their shape."""
    several: bool
    """Whether there are several labels per sample, each a yes or no."""
    threshold: float
    """Of several labels, the probability above which one is predicted."""

    @property
    def predicted(self) -> Tensor:
        """The class of the largest score, (N, M); of several labels which are above the threshold, bool (N, C, M)."""
        if not self.several:
            return self.scores.argmax(1)
        return self.scores > math.log(self.threshold / (1 - self.threshold))

    @property
    def right(self) -> Tensor:
        """Which elements that count are predicted right, bool, in the shape of the targets; none with a NaN score."""
        nan = self.scores.isnan()
        return self.counting & (self.predicted == self.targets) & ~(nan if self.several else nan.any(1))

    def counts(self) -> Tensor:
        """How many elements of each sample are rightly predicted, predicted, and true, per class: (N, 3, C), int64."""
        found, right = self.predicted, self.right
        if self.several:
            found, true = self.counting & found, self.counting & (self.targets == 1)
            return torch.stack([each.sum(2) for each in (right & true, found, true)], dim=1)
        counts = found.new_zeros(len(found), 3, self.scores.shape[1])
        rows = ((self.targets, right), (found, self.counting), (self.targets, self.counting))
        for row, (classes, which) in enumerate(rows):
            counts[:, row].scatter_add_(1, classes, which.long())
        return counts


def elements(metric: str, takes: str, task: Task, outputs: Any, targets: Any) -> Elements:
    """What a metric of classes is made of.

    Classes stand in the second dimension of the outputs: of scores (N, C, …) with targets (N, …) the largest is
    predicted, of several labels, as many targets as scores, those above the task's ``threshold``. What has the task's
    ``ignore_index`` as its target counts nowhere.

    Args:
        metric: Its ``use``.
        takes: What it does with classes, for messages: ``counts classes``.
        task: The one that is measured.
        outputs: Of the model.
        targets: Of the data.

    Raises:
        TrialError: The task chooses no classes; or otherwise, so that the right ones are not those that it calls right.
    """
    told = came(metric, takes, task, outputs, targets)
    if task.correct(outputs, targets) is None:
        raise TrialError(f"{told}, of which nothing is right or wrong: use loss, or r2, mae and rmse of numbers")
    shares = right_shares(task, outputs, targets)  # the task checks targets, before they become indices here
    count, several = len(outputs), outputs.numel() == targets.numel()
    shape = max(outputs.shape, targets.shape if several else (), key=len)  # (N,) and (N, 1) are the same
    scores = outputs.reshape(count, shape[1] if len(shape) > 1 else 1, -1)
    if not several and targets.numel() != count * scores.shape[2]:
        raise TrialError(f"{told}, neither (N, C, …) and (N, …) nor several labels of one shape")
    true = targets.reshape(scores.shape if several else (count, -1))
    ignored = getattr(task, "ignore_index", None)
    counting = torch.ones_like(true, dtype=torch.bool) if ignored is None else true != ignored
    threshold = getattr(task, "threshold", 0.5)
    found = Elements(scores, true.where(counting, 0), counting, several=several, threshold=threshold)
    counted = task.counted(outputs, targets)
    wanted = true[0].numel() if counted is None else counted
    # A task that shifts its targets, say, or has another threshold, must not be counted in silence.
    off = (found.right.flatten(1).sum(1) - shares.double() * wanted).abs().max()
    if off > 0.5 + 1e-6 * true[0].numel() or bool((counting.flatten(1).sum(1) != wanted).any()):
        raise TrialError(f"{told}, but calls others right than the largest score, or each above a threshold, says")
    return found
