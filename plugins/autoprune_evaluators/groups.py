"""Whom a model serves worst: accuracy within groups that it does not predict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from autoprune import DataError, TrialError
from autoprune.plugin import Batch, Cost, Data, EvaluationContext, Metric, Task
from autoprune.plugin.task import shapes
from autoprune.toolkit.files import near
from autoprune.toolkit.samples import SampleEvaluator, right_shares, weights
from autoprune_evaluators._passes import WorstShare

if TYPE_CHECKING:
    from torch import Tensor

_MOST = 50
"""Groups: of more, such as of a column of numbers, the worst one says little."""


class WorstGroup(WorstShare):
    """The accuracy within the group of samples that fares worst, such as one hospital or one sex.

    Pruning can keep the mean and lose a group: Hooker et al., *Characterising bias in compressed models*,
    arXiv:2010.03058; the measure is that of Sagawa et al., *Distributionally robust neural networks for group shifts*,
    arXiv:1911.08731. Its 95 % interval is that of `worst-class`.
    """

    name = "worst-group"
    metrics = (
        Metric("worst_group_accuracy", "fraction", "maximize", Cost.FORWARD, "Accuracy of the group that fares worst."),
    )

    by: Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1)] = Field(
        description="What tells groups, one for each of its values: the name of targets, which no head need predict; or"
        " a column of a table of inputs, by its number from 0."
    )

    def refuses(self, data: Data) -> str | None:
        """Why nothing there tells groups; None where something does."""
        import torch

        inputs, targets = data.validation.fetch(torch.zeros(1, dtype=torch.int64))
        if isinstance(self.by, int):
            if inputs.first.ndim != 2 or self.by >= inputs.first.shape[1]:
                return f"{self.name}: there is no column {self.by}; the first input is {shapes(inputs.first)}"
            return None
        if not isinstance(targets, Mapping):
            return f"{self.name}: targets are {shapes(targets)}, not by name: let the data give {self.by!r} beside them"
        if self.by not in targets:
            return f"{self.name}: there are no targets {self.by!r}{near(self.by, targets)}"
        if targets[self.by].ndim > 2 or targets[self.by].numel() != 1:
            return f"{self.name}: {self.by} are {shapes(targets[self.by])}; a sample is in one group"
        return None

    def batches(self, ctx: EvaluationContext) -> Iterable[Batch]:
        """The samples, whose targets know their groups.

        Raises:
            DataError: Nothing there tells groups.
            TrialError: There are more than 50, or one is no number.
        """
        if fault := self.refuses(ctx.data):
            raise DataError(fault)
        groups: Tensor = ctx.memo(
            ("autoprune_evaluators.groups", self.by, self.samples, str(ctx.device), ctx.split),
            lambda: self._groups(ctx),
        )
        for (inputs, targets), values in zip(super().batches(ctx), self._values(ctx), strict=True):
            yield inputs, _Grouped(targets, values[:, None] == groups)

    def _groups(self, ctx: EvaluationContext) -> Tensor:
        """The values that there are, (G,)."""
        import torch

        values = torch.cat(list(self._values(ctx)))
        groups: Tensor = values.unique()  # type: ignore[no-untyped-call]
        if not bool(groups.isfinite().all()):
            raise TrialError(f"{self.name}: {self._told()} is no number in some of the samples")
        if len(groups) > _MOST:
            raise TrialError(f"{self.name}: {self._told()} has {len(groups)} values; groups are {_MOST} at most")
        return groups

    def _values(self, ctx: EvaluationContext) -> Iterator[Tensor]:
        """What tells groups, of each batch (N,)."""
        for inputs, targets in SampleEvaluator.batches(self.model_copy(update={"head": ""}), ctx):
            yield inputs.first[:, self.by] if isinstance(self.by, int) else targets[self.by].flatten()

    def _told(self) -> str:
        return f"column {self.by}" if isinstance(self.by, int) else self.by

    def _statistics(self, task: Task, outputs: Any, targets: _Grouped) -> Tensor:
        import torch

        right = right_shares(task, outputs, targets.targets).double()
        counted = weights(task, outputs, targets.targets).double()
        member = targets.member.double()
        elements = member * counted[:, None]
        return torch.stack([elements * right[:, None], (elements > 0).double(), elements], dim=1).flatten(1)


@dataclass(frozen=True)
class _Grouped:
    targets: Any
    """Of a batch, (N, …)."""
    member: Tensor
    """Of which group each sample is, bool, (N, G)."""
