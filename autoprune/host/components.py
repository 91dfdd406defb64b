"""The components of a spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast

from autoprune.host.slots import kind_of
from autoprune.host.variables import Variable
from autoprune.plugin.component import Component
from autoprune.plugin.contracts import (
    DataSource,
    Evaluator,
    Executor,
    Exporter,
    ModelSource,
    Observer,
    Sampler,
    Scorer,
    Strategy,
    Transform,
)
from autoprune.plugin.knobs import Knob
from autoprune.plugin.task import Task
from autoprune.plugin.values import Cost, Metric
from autoprune.spec.document import KeyPath

C = TypeVar("C", bound=Component)


@dataclass(frozen=True)
class Components:
    """What a spec names.

    Of what the search may choose options of (scorers, strategies, transforms) each is a `Variable`: ``component`` with
    the usual options, its ``knobs``, and ``make(choices)``. The rest are the components themselves. A kind without a
    property here is found by `of`.
    """

    found: Mapping[KeyPath, Variable[Any]]
    """By where they stand in the spec, in its order within each kind."""
    chooses_scorer: bool = False
    """Whether the scorers stand in ``{choose: […]}``: then the search chooses one for all groups; else, of several,
    each group has the one that does least harm. Of several strategies the search chooses, however they stand there."""

    def of(self, contract: type[Component]) -> tuple[Variable[Any], ...]:
        """The components of a kind, in the spec's order."""
        slot = kind_of(contract).slot or ()
        return tuple(each for path, each in self.found.items() if slot and path[: len(slot)] == slot)

    def place(self, component: Component) -> KeyPath:
        """Where a component stands in the spec."""
        return next(path for path, each in self.found.items() if each.component is component)

    @property
    def task(self) -> Task:
        """What right means."""
        return self._one(Task)

    @property
    def model(self) -> ModelSource:
        """Where the dense model comes from."""
        return self._one(ModelSource)

    @property
    def data(self) -> DataSource:
        """Where the data comes from."""
        return self._one(DataSource)

    @property
    def scorers(self) -> tuple[Variable[Scorer], ...]:
        """What ranks units."""
        return self.of(Scorer)

    @property
    def strategies(self) -> tuple[Variable[Strategy], ...]:
        """What prunes."""
        return self.of(Strategy)

    @property
    def transforms(self) -> tuple[Variable[Transform], ...]:
        """What replaces modules, in order."""
        return self.of(Transform)

    @cached_property
    def evaluators(self) -> tuple[Evaluator, ...]:
        """What measures, cheapest first."""
        return tuple(sorted(self._all(Evaluator), key=_cost))

    @property
    def sampler(self) -> Sampler:
        """What proposes candidates."""
        return self._one(Sampler)

    @property
    def executor(self) -> Executor:
        """Where trials run."""
        return self._one(Executor)

    @property
    def exporters(self) -> tuple[Exporter, ...]:
        """What writes the front's models in other forms."""
        return self._all(Exporter)

    @property
    def observers(self) -> tuple[Observer, ...]:
        """What watches."""
        return self._all(Observer)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """Every option that the search chooses."""
        return tuple(knob for variable in self.found.values() for knob in variable.knobs)

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """Everything that evaluators make by the spec alone, by the names that objectives use.

        Of an evaluator that has to see the data it is ``produces(data)`` that tells.
        """
        return {metric.name: metric for evaluator in self.evaluators for metric in evaluator.produces()}

    def _one(self, contract: Callable[..., C]) -> C:
        (only,) = self._all(cast("type[Component]", contract))
        return cast("C", only)

    def _all(self, contract: type[Component]) -> tuple[Any, ...]:
        return tuple(variable.component for variable in self.of(contract))


def _cost(evaluator: Evaluator) -> Cost:
    """Of the dearest metric; of one that has to see the data to tell, that of a pass over it."""
    return max((metric.cost for metric in evaluator.declares(None)), default=Cost.FORWARD)
