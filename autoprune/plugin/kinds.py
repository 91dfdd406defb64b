"""Every kind of component, and where a spec names it. Contracts, slots, schema and binding are derived from this."""

from __future__ import annotations

from dataclasses import dataclass

from autoprune.plugin.component import Component
from autoprune.plugin.contracts import (
    DataSource,
    Evaluator,
    Executor,
    Exporter,
    ModelSource,
    Observer,
    Recovery,
    Sampler,
    Scorer,
    Strategy,
    Transform,
)
from autoprune.plugin.task import Task


@dataclass(frozen=True)
class Kind:
    """A kind of component."""

    contract: type[Component]
    slot: tuple[str, ...] | None = None
    """Keys of the spec; None for what only other components name. How many may stand there, and what does if the spec
    is silent, the spec's own model says."""
    varies: bool = False
    """Whether the search may choose its options: what trials are compared by must not change between them."""


KINDS: tuple[Kind, ...] = (
    Kind(Task, ("task",)),
    Kind(ModelSource, ("model",)),
    Kind(DataSource, ("data",)),
    Kind(Scorer, ("scorer",), varies=True),
    Kind(Strategy, ("strategy",), varies=True),
    Kind(Recovery, varies=True),
    Kind(Transform, ("transforms",), varies=True),
    Kind(Evaluator, ("evaluators",)),
    Kind(Sampler, ("search", "sampler")),
    Kind(Executor, ("search", "executor")),
    Kind(Exporter, ("exporters",)),
    Kind(Observer, ("observers",)),
)

CONTRACTS: tuple[type[Component], ...] = tuple(kind.contract for kind in KINDS)
