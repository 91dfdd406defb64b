"""Several outputs, each with a task of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from autoprune import TrialError
from autoprune.plugin import Task
from autoprune.plugin.task import found_at, shapes
from autoprune.toolkit import samples
from autoprune.toolkit.files import listed, near

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Data


class MultiHead(Task):
    """Several outputs, the heads, each with a task of its own: ``heads: {kind: {use: classification}, …}``.

    A head's outputs stand in what the model returns by its name, or where its own ``output`` says; its targets are
    those that the data gives by its name. The loss is the sum of the heads' losses, each times its weight; what
    compares two models is the weighted mean of the heads, and what is right the mean of those that know right and
    wrong. A head of which nothing counts in a sample has no say there, and a sample in which none has counts nowhere.
    """

    name = "multi-head"

    output: str = Field(default="", description="Where the heads stand in what the model returns, if not on top.")
    heads: dict[str, Task] = Field(min_length=1, description="The task of each head, by its name.")
    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default={}, description="What a head's loss is multiplied by; 1 where left out."
    )

    @field_validator("heads")
    @classmethod
    def _apart(cls, heads: dict[str, Task]) -> dict[str, Task]:
        for name, head in heads.items():
            if isinstance(head, MultiHead):
                raise ValueError(f"{name} has heads of its own: write them here, each with {{output: {name}.…}}")
            if head.targets_are != "the data's":
                raise ValueError(f"{name}: {head.name} has no targets of the data, as other heads do; it stands alone")
        return heads

    @field_validator("weights")
    @classmethod
    def _of_heads(cls, weights: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        heads = info.data.get("heads", weights)
        for name in weights:
            if name not in heads:
                raise ValueError(f"there is no head {name!r}{near(name, heads)}")
        return weights

    def pick(self, returned: Any) -> dict[str, Any]:
        """Each head's outputs, by its name.

        Raises:
            TrialError: One is not there.
        """
        stands = found_at(returned, self.output) if self.output else returned
        return {name: head.pick(stands if head.output else found_at(stands, name)) for name, head in self.heads.items()}

    def part(self, name: str) -> Task:
        """The task of a head.

        Raises:
            TrialError: There is no such head.
        """
        if name not in self.heads:
            raise TrialError(f"multi-head has no head {name!r}{near(name, self.heads)}")
        return self.heads[name]

    def loss(self, outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> Tensor:
        """Sum of the heads' losses, each times its weight, (N,)."""
        return self._sum({n: samples.losses(head, outputs[n], targets[n]) for n, head in self.heads.items()})

    def training_loss(self, outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> Tensor:
        """The same of what each head minimises in training, (N,)."""
        return self._sum({n: head.training_loss(outputs[n], targets[n]) for n, head in self.heads.items()})

    def divergence(self, outputs: Mapping[str, Any], dense: Mapping[str, Any], targets: Any = None) -> Tensor:
        """Weighted mean of the heads' divergences, (N,), float64."""
        found = {
            n: samples.divergences(head, outputs[n], dense[n], None if targets is None else targets[n])
            for n, head in self.heads.items()
        }
        return self._mean(found, self.weights, outputs, targets)[0]

    def agreement(self, outputs: Mapping[str, Any], dense: Mapping[str, Any], targets: Any = None) -> Tensor:
        """Weighted mean of the heads' agreements, (N,)."""
        found = {
            n: samples.agreements(head, outputs[n], dense[n], None if targets is None else targets[n])
            for n, head in self.heads.items()
        }
        return self._mean(found, self.weights, outputs, targets)[0]

    def correct(self, outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> Tensor | None:
        """Mean share of right elements of the heads that know right and wrong, (N,); None where none does.

        Raises:
            TrialError: Nothing of those heads counts in a sample in which others do.
        """
        shares = {n: head.correct(outputs[n], targets[n]) for n, head in self.heads.items()}
        known = {n: share for n, share in shares.items() if share is not None}
        if not known:
            return None
        right, says = self._mean(known, {}, outputs, targets)
        counted = self.counted(outputs, targets)
        silent = says == 0 if counted is None else (says == 0) & (counted > 0)
        if silent.any():
            raise TrialError(
                f"multi-head: in a sample nothing counts of what is right or wrong, {listed(known)}, but something of"
                " other heads does: measure one at a time, {use: accuracy, head: …}"
            )
        return right

    def counted(self, outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> Tensor | None:
        """1 where anything of any head counts, 0 elsewhere, (N,); None where it always does."""
        import torch

        found = [head.counted(outputs[n], targets[n]) for n, head in self.heads.items()]
        each = [counted > 0 for counted in found if counted is not None]
        return torch.stack(each).any(0).long() if len(each) == len(found) else None

    def refuses(self, outputs: Mapping[str, Any], targets: Any, data: Data) -> str | None:
        """Why a batch does not fit the heads, and what to write; None when it does."""
        if not isinstance(targets, Mapping):
            return (
                f"targets are {shapes(targets)}; multi-head takes targets by name, those of each head by its own: let"
                f" the data give a mapping with {listed(self.heads)}"
            )
        for name, head in self.heads.items():
            if name not in targets:
                return f"the data has no targets of that name for head {name!r}{near(name, targets)}"
            # How many classes the data has is not said of one head or another.
            if reason := head.refuses(outputs[name], targets[name], replace(data, classes=None)):
                return f"head {name!r}: {reason}"
        return None

    def faulty(self, targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> str | None:
        """What is wrong with a head's targets; None when nothing is."""
        for name, head in self.heads.items():
            if reason := head.faulty(targets[name], outputs[name]):
                return f"head {name!r}: {reason}"
        return None

    def _sum(self, losses: Mapping[str, Tensor]) -> Tensor:
        import torch

        return torch.stack([self.weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum(0)

    def _mean(
        self, values: Mapping[str, Tensor], weights: Mapping[str, float], outputs: Mapping[str, Any], targets: Any
    ) -> tuple[Tensor, Tensor]:
        """The weighted mean of heads' values over those of which anything counts, 0 where none has, and the weights.

        Both are (N,) float64; a sample's weight is that of its heads together.
        """
        import torch

        total, share = torch.zeros(()), torch.zeros(())
        for name, value in values.items():
            says = torch.ones_like(value, dtype=torch.float64)
            if targets is not None:
                says = (samples.weights(self.heads[name], outputs[name], targets[name]) > 0).double()
            says = weights.get(name, 1.0) * says
            total, share = total.to(says) + says * value, share.to(says) + says
        return total / share.where(share > 0, 1.0), share
