"""How predicted and true classes meet: precision, recall, F1, intersection over union, the class that fares worst."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Cost, Metric, Task
from autoprune_evaluators._passes import TotalsEvaluator, WorstShare

if TYPE_CHECKING:
    from torch import Tensor


class _Overlap(TotalsEvaluator):
    undefined: ClassVar[str] = "no class occurs in the samples, neither true nor predicted"

    def _statistics(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        from autoprune_evaluators._counting import elements

        return elements(self.name, "counts classes", task, outputs, targets).counts().flatten(1)

    def _value(self, sums: Tensor) -> Tensor:
        hits, found, true = sums.unflatten(-1, (3, -1)).unbind(-2)  # type: ignore[no-untyped-call]
        return self._of_classes(hits, found, true)

    @abstractmethod
    def _of_classes(self, hits: Tensor, found: Tensor, true: Tensor) -> Tensor:
        """The metric, (…,), of how often each class is predicted rightly, predicted, and true, (…, C) each."""


class _Averaged(_Overlap):
    average: Literal["macro", "micro", "weighted"] = Field(
        default="macro",
        description="macro: the mean over classes; weighted: by how often each is true; micro: all elements at once.",
    )
    of_class: int | None = Field(
        default=None,
        ge=0,
        description="The class, or label, that alone is measured, by its number from 0; all if null.",
    )

    def _statistics(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        counts = super()._statistics(task, outputs, targets)
        if self.of_class is None:
            return counts
        each = counts.unflatten(1, (3, -1))  # type: ignore[no-untyped-call]
        if self.of_class >= each.shape[2]:
            raise TrialError(f"{self.name}: of_class {self.of_class}, but the model has {each.shape[2]}, from 0 on")
        alone: Tensor = each[:, :, self.of_class]
        return alone

    def _of_classes(self, hits: Tensor, found: Tensor, true: Tensor) -> Tensor:
        if self.average == "micro":
            return self._of_each(hits.sum(-1), found.sum(-1), true.sum(-1))
        each = self._of_each(hits, found, true)
        if self.average == "macro":
            return each.nanmean(-1)
        return (true * each.nan_to_num(0)).sum(-1) / true.sum(-1)

    @abstractmethod
    def _of_each(self, hits: Tensor, found: Tensor, true: Tensor) -> Tensor:
        """The metric of each class, NaN for one that neither is true nor predicted; all in the same shape."""


class F1(_Averaged):
    """F1, the harmonic mean of precision and recall, of classes, of each position's class or of several labels.

    Classes and labels stand in the second dimension of the outputs, (N, C, …). Elements that do not count (ignored
    positions) count nowhere; classes that occur neither in the targets nor in the predictions are left out of the
    average. Its 95 % interval is a bootstrap's over samples.
    """

    name = "f1"
    metrics = (Metric("f1", "fraction", "maximize", Cost.FORWARD, "F1, averaged over classes."),)

    def _of_each(self, hits: Tensor, found: Tensor, true: Tensor) -> Tensor:
        return 2 * hits / (found + true)


class Precision(_Averaged):
    """Precision, how much of what is predicted to be of a class is: of classes, of positions or of several labels.

    What counts is as of ``f1``. A class that is true and never predicted has the precision 0.
    """

    name = "precision"
    metrics = (Metric("precision", "fraction", "maximize", Cost.FORWARD, "Precision, averaged over classes."),)

    def _of_each(self, hits: Tensor, found: Tensor, true: Tensor) -> Tensor:
        return (hits / found).where((found > 0) | (true == 0), 0)


class Recall(_Averaged):
    """Recall, how much of what is of a class is predicted to be: of classes, of positions or of several labels.

    What counts is as of ``f1``. A class that is predicted and never true has the recall 0.
    """

    name = "recall"
    metrics = (Metric("recall", "fraction", "maximize", Cost.FORWARD, "Recall, averaged over classes."),)

    def _of_each(self, hits: Tensor, found: Tensor, true: Tensor) -> Tensor:
        return (hits / true).where((true > 0) | (found == 0), 0)


class WorstClass(WorstShare):
    """The accuracy within the class that fares worst: the smallest recall of all classes that are true anywhere.

    The smallest of several shares leans low where a class has few samples. Its 95 % interval, that of the smallest of
    all classes' Wilson intervals which hold together (Bonferroni), allows for it; elements of one sample count in it as
    one, as if they were alike.
    """

    name = "worst-class"
    metrics = (
        Metric("worst_class_accuracy", "fraction", "maximize", Cost.FORWARD, "The smallest recall of all classes."),
    )
    undefined: ClassVar[str] = "no class is true in any of the samples"

    def _statistics(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        import torch

        from autoprune_evaluators._counting import elements

        hits, _, true = elements(self.name, "counts classes", task, outputs, targets).counts().unbind(1)
        return torch.stack([hits, true > 0, true], dim=1).flatten(1)


class MeanIou(_Overlap):
    """Mean intersection over union: of each class, elements rightly predicted of those where it is true or predicted.

    The mean over the classes that occur in the targets or in the predictions, from the confusion of all elements that
    count; ignored positions count nowhere. Its 95 % interval is a bootstrap's over samples.
    """

    name = "miou"
    metrics = (Metric("miou", "fraction", "maximize", Cost.FORWARD, "Mean intersection over union of classes."),)

    def _of_classes(self, hits: Tensor, found: Tensor, true: Tensor) -> Tensor:
        return (hits / (found + true - hits)).nanmean(-1)
