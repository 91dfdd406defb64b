"""First-party samplers: Optuna's own, as components."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl
from autoprune_samplers.bayesian import Gp, Tpe
from autoprune_samplers.genetic import Nsga2, Nsga3
from autoprune_samplers.uniform import Random


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The samplers of this package."""
    return Nsga2, Nsga3, Tpe, Gp, Random
