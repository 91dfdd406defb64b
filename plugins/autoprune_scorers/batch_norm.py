"""Importance by the scale of batch norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Scorer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.plugin import Group, ScoreContext


class BatchNormScale(Scorer):
    """Mean absolute scale (gamma) of the batch norms that follow a unit.

    Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", arXiv:1708.06519. The ranking
    says most about a network that was trained with an L1 penalty on its scales.
    """

    name = "bn-scale"

    otherwise: Scorer | None = Field(
        default=None,
        description="Ranks the groups that no batch norm follows; such a group fails the trial if left out.",
    )

    def score(self, group: Group, ctx: ScoreContext) -> Tensor:
        """Mean of |gamma| over the unit's entries in all batch norms of the group, (U,).

        Raises:
            TrialError: No batch norm with a scale follows the group, and there is no ``otherwise``.
        """
        places = [p for p in group.slices if p.role == "vector" and _is_scale(ctx.network, p.parameter)]
        if places:
            sums = [p.total(ctx.tensor(p.parameter).float().abs()) for p in places]
            return sum(sums[1:], start=sums[0]) / sum(p.index.shape[1] for p in places)
        if self.otherwise is not None:
            return self.otherwise.score(group, ctx)
        raise TrialError(_unranked(group))

    def refuses(self, group: Group) -> str | None:
        """Why it cannot rank a group: none of its parameters can be a scale, and there is no ``otherwise``."""
        # A weight with an entry per unit is some norm's. Which one's, the network tells when it is scored.
        if any(part.role == "vector" and part.parameter.endswith("weight") for part in group.slices):
            return None
        return _unranked(group) if self.otherwise is None else self.otherwise.refuses(group)


def _unranked(group: Group) -> str:
    return (
        f"no batch norm follows group {group.name!r}, so bn-scale cannot rank its units; say what "
        "ranks such groups: {use: bn-scale, otherwise: {use: l1}}"
    )


def _is_scale(network: nn.Module, parameter: str) -> bool:
    from torch.nn.modules.batchnorm import _BatchNorm

    module, _, name = parameter.rpartition(".")
    return name == "weight" and isinstance(network.get_submodule(module), _BatchNorm)
