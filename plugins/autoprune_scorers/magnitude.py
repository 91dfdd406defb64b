"""Importance by the magnitude of the weights that make a unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from autoprune import TrialError
from autoprune.plugin import Scorer
from autoprune_scorers._units import along, per_unit

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Group, ScoreContext


class L1(Scorer):
    """Mean absolute weight of the filters that make a unit.

    Li et al., "Pruning Filters for Efficient ConvNets", arXiv:1608.08710.
    """

    name = "l1"

    def score(self, group: Group, ctx: ScoreContext) -> Tensor:
        """Mean of |w| over the unit's output weights, all layers of the group together, (U,)."""
        return _mean(group, ctx, lambda weight: weight.abs())


class L2(Scorer):
    """Root mean square of the weights of the filters that make a unit.

    Ranks a single layer as its filters' Euclidean norms do (He et al., "Soft Filter Pruning", arXiv:1808.06866).
    """

    name = "l2"

    def score(self, group: Group, ctx: ScoreContext) -> Tensor:
        """Root of the mean of w² over the unit's output weights, all layers of the group together, (U,)."""
        return _mean(group, ctx, lambda weight: weight.square()).sqrt()


def _mean(group: Group, ctx: ScoreContext, magnitude: Callable[[Tensor], Tensor]) -> Tensor:
    sums: list[Tensor] = []
    entries = 0
    for place in group.slices:
        if place.role == "output":
            weight = ctx.tensor(place.parameter).float()
            sums.append(per_unit(along(magnitude(weight), place.dim), place))
            entries += place.index.shape[1] * weight.numel() // weight.shape[place.dim]
    if not sums:
        raise TrialError(f"group {group.name!r} has no output weights whose magnitude could rank it; use taylor")
    return sum(sums[1:], start=sums[0]) / entries
