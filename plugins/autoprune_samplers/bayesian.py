"""Samplers that fit a model to the finished trials."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from autoprune.plugin import Sampler, SamplerContext

if TYPE_CHECKING:
    import optuna

    from autoprune.plugin.values import Direction


class Tpe(Sampler):
    """Tree-structured Parzen estimator.

    Bergstra et al., *Algorithms for hyper-parameter optimization*, NeurIPS 2011; several objectives: Ozaki et al.,
    *Multiobjective tree-structured Parzen estimator*, JAIR 73 (2022). Also learns from candidates that were rejected
    by arithmetic alone.
    """

    name = "tpe"

    multivariate: bool = Field(
        default=True, description="Model knobs jointly; independently is much slower with several objectives."
    )
    n_startup_trials: int = Field(default=10, ge=1, description="Trials before the model is used; drawn at random.")
    n_ei_candidates: int = Field(default=24, ge=1, description="Draws from the model, of which the best is proposed.")

    def build(self, ctx: SamplerContext) -> optuna.samplers.BaseSampler:
        """Any number of objectives."""
        from optuna.samplers import TPESampler

        return TPESampler(
            seed=ctx.seed,
            multivariate=self.multivariate,
            n_startup_trials=self.n_startup_trials,
            n_ei_candidates=self.n_ei_candidates,
        )


class Gp(Sampler):
    """Gaussian processes and expected (hypervolume) improvement: few, dear trials; a proposal itself takes seconds.

    Daulton et al., *Differentiable expected hypervolume improvement*, arXiv:2006.05078.
    """

    name = "gp"

    n_startup_trials: int = Field(default=10, ge=1, description="Trials before the model is used; drawn at random.")

    def refuses(self, objectives: Mapping[str, Direction]) -> str | None:  # noqa: ARG002 - any number will do
        """Where SciPy is missing."""
        return None if importlib.util.find_spec("scipy") else "gp needs SciPy: pip install 'autoprune[gp]'"

    def build(self, ctx: SamplerContext) -> optuna.samplers.BaseSampler:
        """Any number of objectives."""
        from optuna.samplers import GPSampler

        return GPSampler(seed=ctx.seed, n_startup_trials=self.n_startup_trials, warn_independent_sampling=False)
