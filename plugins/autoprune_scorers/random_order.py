"""Importance by chance: the baseline that any other scorer has to beat."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from autoprune.plugin import Scorer

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Group, ScoreContext


class RandomOrder(Scorer):
    """Uniform random importance, the same again for the same seed; its own for each group."""

    name = "random"

    def score(self, group: Group, ctx: ScoreContext) -> Tensor:
        """Uniform in [0, 1), (U,)."""
        import torch

        seed = zlib.crc32(f"{ctx.seed}:{group.name}".encode())  # unlike hash(), the same in every process
        return torch.rand(group.units, generator=torch.Generator().manual_seed(seed))
