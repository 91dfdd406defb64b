"""Where the true classes stand among the scores: top-k accuracy, area under the ROC curve.

Shapes use: N samples of M elements each, C classes or labels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Cost, Measured, Metric, Task
from autoprune.toolkit.ranks import Separation
from autoprune_evaluators._passes import ShareEvaluator
from autoprune_evaluators._whole import WholeEvaluator

if TYPE_CHECKING:
    from torch import Tensor


class TopK(ShareEvaluator):
    """The share of samples, or of elements that count, whose class is among the k of the largest scores.

    Of equal scores the first class stands higher, as in a prediction; where a score is NaN nothing is right. Its 95 %
    interval is Wilson's, where a sample has many elements the normal approximation.
    """

    name = "top-k"
    metrics = (
        Metric("top_k_accuracy", "fraction", "maximize", Cost.FORWARD, "Share whose class is among the k best scores."),
    )

    k: int = Field(default=5, ge=1, description="How many of the largest scores count; fewer than there are classes.")

    def _values(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        import torch

        from autoprune_evaluators._counting import elements

        found = elements(self.name, "ranks classes", task, outputs, targets)
        if found.several:
            raise TrialError(f"{self.name} is of one class each; task {task.name} has several labels: use auc, or f1")
        classes = found.scores.shape[1]
        if self.k >= classes:
            raise TrialError(f"{self.name}: among {self.k} of {classes} classes every one is; write k: {classes - 1}")
        place = found.targets.unsqueeze(1)
        own = found.scores.gather(1, place)
        number = torch.arange(classes, device=place.device).view(1, -1, 1)
        better = (found.scores > own) | ((found.scores == own) & (number < place))
        right = found.counting & (better.sum(1) < self.k) & ~found.scores.isnan().any(1)
        return right.double().sum(1) / found.counting.sum(1).clamp_min(1)


class Auc(WholeEvaluator):
    """Area under the ROC curve: how often an element of a class has a higher score than one that is not, ties half.

    Of two classes that of the second; of more the mean over classes, each against all the rest by its probability; of
    several labels the mean over labels. Classes that are true nowhere, or everywhere, are left out. Its 95 % interval
    is by DeLong et al., *Comparing the areas under two or more correlated receiver operating characteristic curves*,
    Biometrics 44 (1988), with the elements of a sample taken together (Obuchowski, Biometrics 53, 1997).
    """

    name = "auc"
    metrics = (Metric("auc", "fraction", "maximize", Cost.FORWARD, "Area under the ROC curve, averaged over classes."),)
    undefined: ClassVar[str] = "no class, or label, is true of some of the samples and not of others"

    def _kept(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        """Scores and whether they are of true ones, -1 where that does not count, (N, 2, C, M)."""
        import torch

        from autoprune_evaluators._counting import elements

        found = elements(self.name, "ranks classes", task, outputs, targets)
        scores, counting = found.scores.double(), found.counting
        if found.several:
            true = found.targets == 1
        else:
            number = torch.arange(scores.shape[1], device=scores.device).view(1, -1, 1)
            scores, true, counting = _log_odds(scores), number == found.targets.unsqueeze(1), counting.unsqueeze(1)
        each = torch.stack([scores, true.double().masked_fill(~counting, -1)], dim=1)
        return each[:, :, 1:] if each.shape[2] == 2 and not found.several else each  # that of the first is the same

    def _contributions(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        count, every = len(kept), kept.new_ones(len(kept))
        found = [_area(scores, marks) for scores, marks in _defined(kept)]
        if not found:
            return kept.new_full((count,), math.nan), every
        areas, moved = (torch.stack(each) for each in zip(*found, strict=True))
        return areas.mean() + count * moved.mean(0), every

    def _mean(self, values: Tensor, counted: Tensor, kept: Tensor) -> Measured:
        found = super()._mean(values, counted, kept)
        if found.low is None or found.high is None:
            return found
        return found.model_copy(update={"low": max(0.0, found.low), "high": min(1.0, found.high)})

    def _varies(self, kept: Tensor) -> bool:
        return all(bool((marks == mark).sum() > 1) for _, marks in _defined(kept) for mark in (0, 1))


def _defined(kept: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Scores and marks, both (N, M), of each class that is true of some elements and not of others."""
    each = ((of_class[:, 0], of_class[:, 1]) for of_class in kept.unbind(2))
    return [(scores, marks) for scores, marks in each if bool((marks == 1).any()) and bool((marks == 0).any())]


def _log_odds(scores: Tensor) -> Tensor:
    """The log-odds of each class, (N, C, M): in the order of its probability, but not rounded to the same 0 or 1."""
    import torch

    best = scores.argmax(1, keepdim=True)
    log = scores.log_softmax(1)
    odds = log - torch.log1p(-log.exp())  # a probability is a half at most, but that of the best class
    rest = scores.scatter(1, best, -math.inf).logsumexp(1, keepdim=True)
    odds = odds.scatter(1, best, scores.gather(1, best) - rest)
    return odds.round(decimals=9)  # what is the same in theory differs in the last digits, and is to be a tie


def _area(scores: Tensor, marks: Tensor) -> tuple[Tensor, Tensor]:
    """The area, (), and by how much each sample moves it, (N,), which add up to 0; DeLong's structural components.

    Args:
        scores: (N, M).
        marks: 1 of a true element, 0 of another, -1 of one that does not count, (N, M).
    """
    import torch

    moved = torch.zeros_like(scores)
    found = Separation.of(scores[marks == 1], scores[marks == 0])
    for mark, shares in ((1, found.above), (0, found.below)):
        bessel = math.sqrt(len(shares) / max(1, len(shares) - 1))
        moved[marks == mark] = bessel * (shares - shares.mean()) / len(shares)
    return found.above.mean(), moved.sum(1)
