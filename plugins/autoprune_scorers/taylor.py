"""Importance by the change of the loss that a first-order Taylor expansion foretells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Scorer
from autoprune_scorers._units import along, per_unit

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Group, ScoreContext

Sums = dict[tuple[str, int], "Tensor"]
"""Per parameter and dimension: gradient * weight summed over all other dimensions, (batches, D)."""


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

        Raises:
            TrialError: The loss does not depend on the group's units.
        """
        sums = ctx.memo(("taylor", self.batches, self.batch_size), lambda: self._sums(ctx))
        changes = [
            per_unit(sums[p.parameter, p.dim], p)
            for p in group.slices
            if p.role == "input" and (p.parameter, p.dim) in sums
        ]
        if not changes:
            raise TrialError(f"no gradient reaches group {group.name!r}, so taylor cannot rank it")
        return sum(changes[1:], start=changes[0]).square().mean(0)

    def _sums(self, ctx: ScoreContext) -> Sums:
        """One gradient of all parameters per batch, for all groups."""
        import torch
        from torch.nn.functional import cross_entropy

        parameters = {n: p.requires_grad_() for n, p in ctx.network.named_parameters() if p.is_floating_point()}
        collected: dict[tuple[str, int], list[Tensor]] = {}
        for inputs, targets in ctx.data.train.batches(
            self.batch_size, samples=self.batches * self.batch_size, device=ctx.device, generator=ctx.generator()
        ):
            with torch.enable_grad():
                loss = cross_entropy(ctx.model(*inputs), targets)
                gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
                if gradient is not None:
                    change = (gradient * parameter.detach()).float()
                    for dim in range(change.ndim):
                        collected.setdefault((name, dim), []).append(along(change, dim))
        return {key: torch.stack(rows) for key, rows in collected.items()}
