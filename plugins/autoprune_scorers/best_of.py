"""Importance by whichever of several scorers turns out to do least harm."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Scorer
from autoprune_scorers.magnitude import L1, L2
from autoprune_scorers.taylor import Taylor

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Group, ScoreContext

_LEAST = 1e-4
"""Divergence in nats below which it makes no difference."""


class BestOf(Scorer):
    """Ranks each group by the scorer whose cuts of it change the predictions least.

    No criterion is best everywhere: which one is differs from layer to layer of one network. So some cuts of each group
    alone, by each scorer, are measured in a forward pass each, and the mean of the logarithms of the divergences from
    the dense model's predictions decides. A scorer that cannot rank a group takes no part there.
    """

    name = "best-of"

    scorers: list[Scorer] = Field(
        default=[L1(), L2(weights="fan-out"), Taylor()], min_length=2, description="What to choose from, per group."
    )

    def score(self, group: Group, ctx: ScoreContext) -> Tensor:
        """As the chosen scorer does, (U,).

        Raises:
            TrialError: None of the scorers can rank the group.
        """
        best: tuple[float, Tensor] | None = None
        reasons = []
        for scorer in self.scorers:
            try:
                scores = scorer.score(group, ctx)
                divergence = ctx.sensitivity(group, scores).divergence
            except TrialError as error:
                reasons.append(f"{scorer.name}: {error}")
                continue
            harm = sum(math.log(max(each, _LEAST)) for each in divergence)
            if best is None or harm < best[0]:
                best = harm, scores
        if best is None:
            raise TrialError("; ".join(reasons))
        return best[1]
