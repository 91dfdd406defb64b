"""Importance by the change of the loss that a first-order Taylor expansion foretells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Scorer

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Group, ScoreContext


class Taylor(Scorer):
    """Squared first-order change of the loss when the unit is cut, averaged over batches of the train split.

    Molchanov et al., "Importance Estimation for Neural Network Pruning", arXiv:1906.10771, equation 8. Summed are the
    weights that *read* the unit: zeroing those is exactly the cut, whatever norm or bias stands in between, and they
    sum to gradient * activation as the paper's gates do. Many small batches say more than a few large ones, in which
    the gradients of a trained network cancel out.
    """

    name = "taylor"

    batches: int = Field(default=32, ge=1, description="Batches of the train split.")
    batch_size: int = Field(default=16, ge=1, description="Samples in a batch.")

    def score(self, group: Group, ctx: ScoreContext) -> Tensor:
        """Mean over batches of (Σ gradient * weight over the entries that read the unit)², (U,).

        Of a block it is the sum over all its parameters, of a weight or kernel over its own entries.

        Raises:
            TrialError: The loss does not depend on the group's units, or its targets are what the dense model puts out.
        """
        if ctx.task.targets_are == "the dense model's":
            raise TrialError(
                f"the loss of {ctx.task.name} is least at the dense model itself, where every gradient is 0 and tells"
                " taylor nothing: use l1, l2 or bn-scale"
            )
        changes = ctx.memo(("taylor", self.batches, self.batch_size), lambda: self._changes(ctx))
        if group.name not in changes:
            raise TrialError(f"no gradient reaches group {group.name!r}, so taylor cannot rank it")
        return changes[group.name]

    def refuses(self, group: Group) -> str | None:
        """Why it cannot rank a group: nothing reads its units; None when something does."""
        return None if any(_telling(group)) else f"no weight reads group {group.name!r}, so taylor cannot rank it"

    def _changes(self, ctx: ScoreContext) -> dict[str, Tensor]:
        """One gradient of the parameters that tell about any group, per batch."""
        from autoprune.toolkit.gradients import loss_gradients

        telling = {name for group in ctx.groups for name in _telling(group)}
        parameters = {name: parameter for name, parameter in ctx.network.named_parameters() if name in telling}
        batches = ctx.data.train.batches(
            self.batch_size, samples=self.batches * self.batch_size, device=ctx.device, generator=ctx.generator()
        )
        changes: dict[str, Tensor] = {}
        for gradients in loss_gradients(ctx.model, parameters, batches, task=ctx.task):
            change = {name: (gradient * parameters[name].detach()).float() for name, gradient in gradients.items()}
            for group in ctx.groups:
                known = _reached(group, set(change))
                if known is not None:
                    squares = known.total(change.__getitem__, "input").square() / self.batches
                    changes[group.name] = changes.get(group.name, 0) + squares
        return changes


def _telling(group: Group) -> Iterable[str]:
    """The parameters whose gradients rank a group."""
    if group.owned:
        return (name for names in group.owned for name in names)
    return (group.masked,) if group.masked else (part.parameter for part in group.slices if part.role == "input")


def _reached(group: Group, parameters: set[str]) -> Group | None:
    """The group less the parameters that no gradient reaches; None where none is left to rank it by."""
    if group.owned:
        owned = tuple(tuple(name for name in names if name in parameters) for names in group.owned)
        return replace(group, owned=owned) if all(owned) else None
    if group.masked:
        return group if group.masked in parameters else None
    slices = tuple(part for part in group.slices if part.role == "input" and part.parameter in parameters)
    return replace(group, slices=slices) if slices else None
