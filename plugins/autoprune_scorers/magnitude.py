"""Importance by the magnitude of the weights that make a unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from autoprune import TrialError
from autoprune.plugin import Scorer

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Group, ScoreContext


class L1(Scorer):
    """Mean absolute weight of the filters that make a unit; of a block, of all its parameters.

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
    sums = group.total(lambda name: magnitude(ctx.tensor(name).float()), "output")
    entries = group.total(lambda name: ctx.tensor(name).new_ones(()).expand(ctx.tensor(name).shape), "output")
    if not entries.all():
        raise TrialError(f"group {group.name!r} has no output weights whose magnitude could rank it; use taylor")
    return sums / entries
