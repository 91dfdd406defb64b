"""Importance by the magnitude of the weights that make a unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Scorer

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Group, ScoreContext
    from autoprune.plugin.values import Role


class _Magnitude(Scorer):
    weights: Literal["fan-in", "fan-out"] = Field(
        default="fan-in",
        description="fan-in: the filter that makes a unit. fan-out: the weights that read it, which a norm between the"
        " two does not rescale.",
    )

    def refuses(self, group: Group) -> str | None:
        """Why it cannot rank a group: it has no weights of the kind that counts; None when it has."""
        whole = group.owned or group.masked
        return None if whole or any(part.role == self._role for part in group.slices) else self._lacking(group)

    @property
    def _role(self) -> Role:
        return "output" if self.weights == "fan-in" else "input"

    def _lacking(self, group: Group) -> str:
        kind = "no output weights" if self.weights == "fan-in" else "no weights that read it and"
        return f"group {group.name!r} has {kind} whose magnitude could rank it; use taylor"

    def _mean(self, group: Group, ctx: ScoreContext, magnitude: Callable[[Tensor], Tensor]) -> Tensor:
        sums = group.total(lambda name: magnitude(ctx.tensor(name).float()), self._role)
        entries = group.total(lambda name: ctx.tensor(name).new_ones(()).expand(ctx.tensor(name).shape), self._role)
        if not entries.all():
            raise TrialError(self._lacking(group))
        return sums / entries


class L1(_Magnitude):
    """Mean absolute weight of the filters that make a unit, or of the weights that read it.

    Li et al., "Pruning Filters for Efficient ConvNets", arXiv:1608.08710. Of a block, all its parameters count.
    """

    name = "l1"

    def score(self, group: Group, ctx: ScoreContext) -> Tensor:
        """Mean of |w| over the unit's weights, all layers of the group together, (U,)."""
        return self._mean(group, ctx, lambda weight: weight.abs())


class L2(_Magnitude):
    """Root mean square of the weights of the filters that make a unit, or of the weights that read it.

    Ranks a single layer as its filters' Euclidean norms do (He et al., "Soft Filter Pruning", arXiv:1808.06866).
    """

    name = "l2"

    def score(self, group: Group, ctx: ScoreContext) -> Tensor:
        """Root of the mean of w² over the unit's weights, all layers of the group together, (U,)."""
        return self._mean(group, ctx, lambda weight: weight.square()).sqrt()
