"""Samples of many positions, each of one class: what segmentation and language models share."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Task
from autoprune.plugin.task import shapes
from autoprune_tasks._refusals import ignored

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Data


class PositionsTask(Task):
    """Base of tasks whose samples have P positions, each of one of C classes.

    The loss is the cross-entropy in nats, and the distance of two models the Kullback-Leibler divergence; both are the
    mean over a sample's positions that count.
    """

    ignore_index: int = Field(
        default=-100, description="Positions with this target count nowhere: in no loss, no comparison and no metric."
    )

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats, the mean over a sample's positions that count, (N,).

        Raises:
            TrialError: A class is not among 0 … C - 1, or there are not as many targets as positions.
        """
        from autoprune_tasks._rows import cross_entropies, sample_means

        scores, classes, counting = self._labelled(outputs, targets)
        return sample_means(cross_entropies(scores, classes), counting)

    def divergence(self, outputs: Tensor, dense: Tensor, targets: Any = None) -> Tensor:
        """Kullback-Leibler divergence of the predicted distributions from the dense model's in nats, (N,), float64.

        The mean over a sample's positions that count; over all of them without targets.
        """
        from autoprune_tasks._rows import relative_entropies, sample_means

        ours, theirs, counting = self._compared(outputs, dense, targets)
        return sample_means(relative_entropies(ours, theirs), counting)

    def agreement(self, outputs: Tensor, dense: Tensor, targets: Any = None) -> Tensor:
        """Share of a sample's positions that count where both models predict the same class, (N,)."""
        from autoprune_tasks._rows import same_classes, sample_means

        ours, theirs, counting = self._compared(outputs, dense, targets)
        return sample_means(same_classes(ours, theirs), counting)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Share of a sample's positions that count whose largest score is the target's, (N,).

        Raises:
            TrialError: As for the loss.
        """
        from autoprune_tasks._rows import right_classes, sample_means

        scores, classes, counting = self._labelled(outputs, targets)
        return sample_means(right_classes(scores, classes), counting)

    def counted(self, outputs: Tensor, targets: Any) -> Tensor:
        """Positions of each sample that count, (N,), int64."""
        return self._counting(outputs, targets)[1].sum(1)

    def faulty(self, targets: Tensor, outputs: Tensor) -> str | None:
        """Which target is no class of the model's; None when all that count are."""
        return self._outside(targets[targets != self.ignore_index], self._scores(outputs, None).shape[2])

    @abstractmethod
    def _scores(self, outputs: Tensor, targets: Tensor | None) -> Tensor:
        """A view of the scores that targets speak of, (N, P, C); of all without targets.

        Raises:
            TrialError: There are not as many targets.
        """

    @abstractmethod
    def _classes(self, targets: Tensor) -> Tensor:
        """A view of the classes that those scores are to say, (N, P)."""

    def _counting(self, outputs: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor]:
        """The scores, (N, P, C), and which positions count, bool of shape (N, P)."""
        import torch

        scores = self._scores(outputs, targets)
        if targets is None:
            return scores, torch.ones(scores.shape[:2], dtype=torch.bool, device=scores.device)
        return scores, self._classes(targets) != self.ignore_index

    def _labelled(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (M, C) and classes (M,) of the positions that count, and which of all do, (N, P)."""
        scores, counting = self._counting(outputs, targets)
        classes = self._classes(targets)[counting]
        if fault := self._outside(classes, scores.shape[2]):
            raise TrialError(f"{self.name}: {fault}")
        return scores[counting], classes, counting

    def _compared(self, outputs: Tensor, dense: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of both models, (M, C), of the positions that count, and which of all do, (N, P)."""
        scores, counting = self._counting(outputs, targets)
        return scores[counting], self._scores(dense, targets)[counting], counting

    def _unanswered(self, outputs: Tensor, targets: Tensor, data: Data) -> str | None:
        """Why the classes of a batch, of fitting shapes, cannot be told from its outputs; None when they can."""
        scores, counting = self._counting(outputs, targets)
        count = scores.shape[2]
        if data.classes is not None and data.classes > count:
            return f"the data has {data.classes} classes, but the model has {count} outputs, {shapes(outputs)}"
        return ignored(counting, self.ignore_index) or self._outside(self._classes(targets)[counting], count)

    def _outside(self, classes: Tensor, count: int) -> str | None:
        from autoprune_tasks._rows import outside

        fault = outside(classes, count)
        return fault and f"{fault}; what counts nowhere is {self.ignore_index}, the option ignore_index"
