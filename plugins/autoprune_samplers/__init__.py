"""First-party samplers: our own, which knows pruning, and Optuna's."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl
from autoprune_samplers.bayesian import Gp, Tpe
from autoprune_samplers.genetic import Nsga2, Nsga3
from autoprune_samplers.sensitivity import SensitivitySampler
from autoprune_samplers.uniform import Random


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The samplers of this package."""
    return SensitivitySampler, Nsga2, Nsga3, Tpe, Gp, Random
