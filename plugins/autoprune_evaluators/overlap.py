"""How far predicted and true classes overlap: F1 and intersection over union.

Shapes use: N samples of M elements each, C classes or labels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Cost, Metric, Task
from autoprune.toolkit.samples import right_shares
from autoprune_evaluators._passes import TotalsEvaluator, came

if TYPE_CHECKING:
    from torch import Tensor


class _Overlap(TotalsEvaluator):
    undefined: ClassVar[str] = "no class occurs in the samples, neither true nor predicted"

    def _statistics(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        return _counts(self.name, task, outputs, targets).flatten(1)

    def _value(self, sums: Tensor) -> Tensor:
        hits, found, true = sums.unflatten(-1, (3, -1)).unbind(-2)  # type: ignore[no-untyped-call]
        return self._of_classes(hits, found, true)

    def _of_classes(self, hits: Tensor, found: Tensor, true: Tensor) -> Tensor:
        """The metric, (…,), of how often each class is predicted rightly, predicted, and true, (…, C) each."""
        raise NotImplementedError


class F1(_Overlap):
    """F1, the harmonic mean of precision and recall, of classes, of each position's class or of several labels.

    Classes and labels stand in the second dimension of the outputs, (N, C, …). Elements that do not count (ignored
    positions) count nowhere; classes that occur neither in the targets nor in the predictions are left out of the
    average. Its 95 % interval is a bootstrap's over samples.
    """

    name = "f1"
    metrics = (Metric("f1", "fraction", "maximize", Cost.FORWARD, "F1, averaged over classes."),)

    average: Literal["macro", "micro", "weighted"] = Field(
        default="macro",
        description="macro: the mean over classes; weighted: by how often each is true; micro: all elements at once.",
    )

    def _of_classes(self, hits: Tensor, found: Tensor, true: Tensor) -> Tensor:
        if self.average == "micro":
            return 2 * hits.sum(-1) / (found + true).sum(-1)
        each = 2 * hits / (found + true)
        if self.average == "macro":
            return each.nanmean(-1)
        return (true * each.nan_to_num(0)).sum(-1) / true.sum(-1)


class MeanIou(_Overlap):
    """Mean intersection over union: of each class, elements rightly predicted of those where it is true or predicted.

    The mean over the classes that occur in the targets or in the predictions, from the confusion of all elements that
    count; ignored positions count nowhere. Its 95 % interval is a bootstrap's over samples.
    """

    name = "miou"
    metrics = (Metric("miou", "fraction", "maximize", Cost.FORWARD, "Mean intersection over union of classes."),)

    def _of_classes(self, hits: Tensor, found: Tensor, true: Tensor) -> Tensor:
        return (hits / (found + true - hits)).nanmean(-1)


def _counts(metric: str, task: Task, outputs: Any, targets: Any) -> Tensor:
    """How many elements of each sample are rightly predicted, predicted, and true, per class: (N, 3, C), int64.

    Classes stand in the second dimension of the outputs: of scores (N, C, …) with targets (N, …) the largest is
    predicted, of several labels, as many targets as scores, those above the task's ``threshold``. What has the task's
    ``ignore_index`` as its target counts nowhere.

    Raises:
        TrialError: The task chooses no classes; or otherwise, so that the right ones are not those that it calls right.
    """
    import torch

    told = came(metric, "counts classes", task, outputs, targets)
    if task.correct(outputs, targets) is None:
        raise TrialError(f"{told}, of which nothing is right or wrong: use loss, or r2, mae and rmse of numbers")
    shares = right_shares(task, outputs, targets)  # the task checks targets, before they become indices here
    count, several = len(outputs), outputs.numel() == targets.numel()
    shape = max(outputs.shape, targets.shape if several else (), key=len)  # (N,) and (N, 1) are the same
    scores = outputs.reshape(count, shape[1] if len(shape) > 1 else 1, -1)
    if not several and targets.numel() != count * scores.shape[2]:
        raise TrialError(f"{told}, neither (N, C, …) and (N, …) nor several labels of one shape")
    elements = targets.reshape(scores.shape if several else (count, -1))
    ignored = getattr(task, "ignore_index", None)
    counting = torch.ones_like(elements, dtype=torch.bool) if ignored is None else elements != ignored
    if several:
        counts, right = _of_labels(scores, elements, counting, threshold=getattr(task, "threshold", 0.5))
    else:
        counts, right = _of_classes(scores, elements, counting)
    counted = task.counted(outputs, targets)
    wanted = elements[0].numel() if counted is None else counted
    # A task that shifts its targets, say, or has another threshold, must not be counted in silence.
    off = (right.flatten(1).sum(1) - shares.double() * wanted).abs().max()
    if off > 0.5 + 1e-6 * elements[0].numel() or bool((counting.flatten(1).sum(1) != wanted).any()):
        raise TrialError(f"{told}, but calls others right than the largest score, or each above a threshold, says")
    return counts


def _of_classes(scores: Tensor, targets: Tensor, counting: Tensor) -> tuple[Tensor, Tensor]:
    """Of one class per element, scores (N, C, M) and targets (N, M): counts (N, 3, C), and which are right, (N, M)."""
    true, found = targets.where(counting, 0), scores.argmax(1)
    right = counting & (found == true)
    counts = true.new_zeros(len(scores), 3, scores.shape[1])
    for row, (classes, which) in enumerate(((true, right), (found, counting), (true, counting))):
        counts[:, row].scatter_add_(1, classes, which.long())
    return counts, right


def _of_labels(scores: Tensor, targets: Tensor, counting: Tensor, *, threshold: float) -> tuple[Tensor, Tensor]:
    """Of several labels per sample, all (N, C, M): counts (N, 3, C), and which are right, (N, C, M)."""
    import torch

    true, found = counting & (targets == 1), counting & (scores > math.log(threshold / (1 - threshold)))
    return torch.stack([each.sum(2) for each in (found & true, found, true)], dim=1), counting & (found == true)
