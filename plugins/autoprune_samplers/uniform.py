"""No algorithm at all: the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoprune.plugin import Sampler, SamplerContext

if TYPE_CHECKING:
    import optuna


class Random(Sampler):
    """Every ratio and every other knob uniform between its bounds, independent of what was tried."""

    name = "random"

    def build(self, ctx: SamplerContext) -> optuna.samplers.BaseSampler:
        """Any number of objectives."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=ctx.seed)
