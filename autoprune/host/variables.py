"""Options that the search chooses: ``{choose: [a, b]}`` or ``{low: 1e-4, high: 1e-1, log: true}`` in place of a value.

Each becomes a knob, named by its path in the spec: ``strategy.recover.lr``, ``scorer.weights``, with a number where
there are several components (``strategy.1.recover.0.epochs``) or several to choose from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from autoprune.plugin.component import Component
from autoprune.plugin.knobs import Choice, Choices, Knob, Value
from autoprune.spec.document import KeyPath

C = TypeVar("C", bound=Component)


@dataclass(frozen=True)
class Variable(Generic[C]):
    """A component some of whose options the search may choose."""

    component: C
    """With the usual options: the first of each choice, the lower bound of each range."""
    knobs: tuple[Knob, ...] = ()
    build: Callable[[Choices], C] | None = field(default=None, repr=False, compare=False)
    """Makes it with chosen options, where there are knobs."""

    def make(self, choices: Choices) -> C:
        """The component with what was chosen for its options.

        Args:
            choices: By the knobs' names; the usual where one is left out. Others' knobs may be among them.

        Raises:
            TrialError: Its own checks refuse these options together.
        """
        return self.component if self.build is None else self.build(choices)


@dataclass(frozen=True)
class Open:
    """An option that the search chooses, in the place of its value."""

    knob: Knob
    alternatives: tuple[Any, ...] = ()
    """Of a `Choice`, in its order: data in which further options may be open."""

    def taken(self, choices: Choices) -> tuple[KeyPath, Any]:
        """Where in the document what was chosen stands, from here, and what it is."""
        chosen = choices.get(self.knob.name, self.knob.default)
        if isinstance(self.knob, Choice):
            index = self.knob.options.index(str(chosen))
            return ("choose", index), self.alternatives[index]
        number = float(chosen)
        return ("high" if number == self.knob.high else "low",), round(number) if self.knob.whole else number


def fill(template: Any, choices: Choices) -> Any:
    """The data of a reference with what was chosen for its open options; the usual where nothing was."""
    if isinstance(template, Open):
        return fill(template.taken(choices)[1], choices)
    if isinstance(template, Mapping):
        return {key: fill(value, choices) for key, value in template.items()}
    return [fill(each, choices) for each in template] if isinstance(template, list) else template


def place(template: Any, choices: Choices, path: KeyPath) -> KeyPath:
    """Where in the document, from the reference on, a path of the filled data stands."""
    found: KeyPath = ()
    for part in (None, *path):
        if part is not None:
            found = (*found, part)
            there = isinstance(template, Mapping) or (isinstance(template, list) and isinstance(part, int))
            template = template[part] if there and part in _keys(template) else None
        while isinstance(template, Open):
            step, template = template.taken(choices)
            found = (*found, *step)
    return found


def alternatives(template: Any, outer: Mapping[str, Value] | None = None) -> Iterator[tuple[Open, dict[str, Value]]]:
    """Every open option with each alternative (of a range, its bounds), and what has to be chosen to reach that."""
    outer = dict(outer or {})
    if isinstance(template, Open):
        knob = template.knob
        values: tuple[Value, ...] = knob.options if isinstance(knob, Choice) else (knob.low, knob.high)
        for index, value in enumerate(values):
            chosen: dict[str, Value] = {**outer, knob.name: value}
            yield template, chosen
            if isinstance(knob, Choice):
                yield from alternatives(template.alternatives[index], chosen)
    elif isinstance(template, Mapping | list):
        for each in template.values() if isinstance(template, Mapping) else template:
            yield from alternatives(each, outer)


def _keys(node: Any) -> Any:
    return node if isinstance(node, Mapping) else range(len(node))
