"""Genetic algorithms: they cost next to nothing per proposal and want some hundred trials."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from autoprune.plugin import Sampler, SamplerContext

if TYPE_CHECKING:
    import optuna

    from autoprune.plugin.values import Direction

_CROSSOVERS = {
    "uniform": "UniformCrossover",
    "blx-alpha": "BLXAlphaCrossover",
    "sbx": "SBXCrossover",
    "vsbx": "VSBXCrossover",
    "spx": "SPXCrossover",
    "undx": "UNDXCrossover",
}


class _Genetic(Sampler):
    """What NSGA-II and NSGA-III share."""

    population_size: int = Field(default=20, ge=3, description="Trials in a generation; the first one is random.")
    crossover: Literal["uniform", "blx-alpha", "sbx", "vsbx", "spx", "undx"] = Field(
        default="uniform", description="How the parents' ratios and numbers are mixed."
    )
    crossover_prob: float = Field(default=0.9, ge=0, le=1, description="Chance that a child has several parents.")
    swapping_prob: float = Field(default=0.5, ge=0, le=1, description="Chance that uniform swaps a knob.")
    mutation: Literal["redraw", "polynomial"] = Field(
        default="redraw", description="A mutated knob is drawn anew, or (a number) moved a little."
    )
    mutation_prob: float | None = Field(
        default=None, ge=0, le=1, description="Chance that a knob mutates; 1 / number of knobs if left out."
    )

    def _options(self, seed: int) -> dict[str, Any]:
        from optuna.samplers import nsgaii

        return {
            "seed": seed,
            "population_size": self.population_size,
            "crossover": nsgaii.UniformCrossover(self.swapping_prob)
            if self.crossover == "uniform"
            else getattr(nsgaii, _CROSSOVERS[self.crossover])(),
            "crossover_prob": self.crossover_prob,
            "swapping_prob": self.swapping_prob,
            "mutation": nsgaii.PolynomialMutation() if self.mutation == "polynomial" else None,
            "mutation_prob": self.mutation_prob,
        }


class Nsga2(_Genetic):
    """NSGA-II: non-dominated sorting, then the crowding distance.

    Deb et al., *A fast and elitist multiobjective genetic algorithm: NSGA-II*, IEEE Transactions on Evolutionary
    Computation 6 (2002). The dense model and the ladder are part of its first generation.
    """

    name = "nsga2"

    def build(self, ctx: SamplerContext) -> optuna.samplers.BaseSampler:
        """Any number of objectives; beyond three, nsga3 keeps the front better spread."""
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.NSGAIISampler(**self._options(ctx.seed))


class Nsga3(_Genetic):
    """NSGA-III: non-dominated sorting, then evenly spread reference directions; for four objectives and more.

    Deb and Jain, *An evolutionary many-objective optimization algorithm using reference-point-based nondominated
    sorting approach, part I*, IEEE Transactions on Evolutionary Computation 18 (2014).
    """

    name = "nsga3"

    divisions: int = Field(default=3, ge=1, description="Steps between two corners of the plane of directions.")

    def refuses(self, objectives: Mapping[str, Direction]) -> str | None:
        """A single objective."""
        if len(objectives) < 2:
            return "nsga3 spreads trials over several objectives, and there is one; use nsga2, tpe or gp"
        return None

    def build(self, ctx: SamplerContext) -> optuna.samplers.BaseSampler:
        """At least two objectives."""
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.NSGAIIISampler(dividing_parameter=self.divisions, **self._options(ctx.seed))
