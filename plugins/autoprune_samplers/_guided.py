"""The proposer as Optuna's sampler, so that storages, resuming and dashboards work as with any other."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from autoprune.plugin import Choice, Knob, SamplerContext
from autoprune_samplers._proposer import Pieces, Proposer


class Guided(optuna.samplers.BaseSampler):
    """Proposes all parameters of a trial at once; at random as long as nothing is known."""

    def __init__(self, ctx: SamplerContext, pieces: Pieces) -> None:
        self._ctx = ctx
        self._pieces = pieces
        self._random = optuna.samplers.RandomSampler(seed=ctx.seed)

    def infer_relative_search_space(
        self,
        study: optuna.Study,  # noqa: ARG002 - Optuna's signature
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """Every ratio and every knob."""
        space: dict[str, BaseDistribution] = {
            g.parameter: FloatDistribution(g.low, g.high) for g in self._ctx.groups if g.parameter is not None
        }
        return space | {knob.name: _distribution(knob) for knob in self._ctx.knobs}

    def sample_relative(
        self,
        study: optuna.Study,  # noqa: ARG002 - Optuna's signature
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        """The proposal; none for a trial that was queued with its parameters."""
        if "fixed_params" in trial.system_attrs:
            return {}
        return Proposer(self._ctx, self._pieces, number=trial.number).propose() or {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """At random."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def _distribution(knob: Knob) -> BaseDistribution:
    if isinstance(knob, Choice):
        return CategoricalDistribution(knob.options)
    if knob.whole:
        return IntDistribution(int(knob.low), int(knob.high), log=knob.log)
    return FloatDistribution(knob.low, knob.high, log=knob.log)
