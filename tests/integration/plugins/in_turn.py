"""A sampler that tries every option."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoprune.plugin import Sampler, SamplerContext

if TYPE_CHECKING:
    import optuna


class InTurn(Sampler):
    """Each option of a choice in turn, by the number of the trial; numbers at random."""

    name = "in-turn"

    def build(self, ctx: SamplerContext) -> optuna.samplers.BaseSampler:
        import optuna

        class Turns(optuna.samplers.RandomSampler):
            def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
                if isinstance(distribution, optuna.distributions.CategoricalDistribution):
                    return distribution.choices[trial.number % len(distribution.choices)]
                return super().sample_independent(study, trial, name, distribution)

        return Turns(seed=ctx.seed)
