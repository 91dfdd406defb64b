"""Runs the exported graph on labels, operator by operator."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from autoprune.structure.graph.coupling import Coupling, labels_in
from autoprune.structure.graph.labeling import Labeling
from autoprune.structure.graph.labels import Labels, constant
from autoprune.structure.graph.operators import ELEMENTWISE, FILLED, MOVES, SAME, SEVERAL, WRAPPERS, operator_name
from autoprune.structure.graph.rules.elementwise import elementwise
from autoprune.structure.graph.rules.moves import move
from autoprune.structure.graph.rules.registry import Rules
from autoprune.structure.graph.rules.table import RULES
from autoprune.structure.graph.trace import Traced

_L = TypeVar("_L", bound="Labeler")


def labelled(traced: Traced, choices: Mapping[str, int]) -> Labeling:
    """What a run of a traced graph on labels finds.

    Args:
        traced: The exported model.
        choices: Which dimension carries the units after a node that spreads them over several.
    """

    def label(choices: Mapping[str, int]) -> Labeler:
        labeler = Labeler(traced.graph, traced.names, Coupling(traced, choices), RULES)
        labeler.label()
        return labeler

    coupling = freest(label, choices).coupling
    coupling.finish()
    return coupling.found


def freest(label: Callable[[Mapping[str, int]], _L], choices: Mapping[str, int]) -> _L:
    """A run in which other dimensions carry the units wherever the likeliest ones have to stay, if that is better.

    Args:
        label: Runs a graph on labels.
        choices: What has been chosen.
    """
    best = label(choices)
    others = dict(choices)
    while True:
        found = best.coupling.found
        ways = {node: others.get(node, 0) + 1 for node in found.stuck() if node not in choices}
        ways = {node: way for node, way in ways.items() if way < found.splits[node]}
        if not ways:
            return best
        others |= ways
        another = label(others)
        if another.coupling.found.free() <= found.free():
            return best
        best = another


class Labeler(fx.Interpreter):
    """Pushes labels through a graph."""

    def __init__(
        self,
        graph: fx.GraphModule,
        names: Mapping[str, str],
        coupling: Coupling,
        rules: Rules,
        given: Iterator[Any] | None = None,
    ) -> None:
        """Get ready to run a graph.

        Args:
            graph: The operators.
            names: Placeholder to the name of the parameter or buffer that it stands for.
            coupling: Gathers what is found.
            rules: How operators couple units.
            given: Labels of the placeholders, for a graph within a graph.
        """
        super().__init__(graph)
        self.coupling = coupling
        self._names = names
        self._rules = rules
        self._given = given

    def label(self) -> Any:
        """Run the graph."""
        return self.run(enable_io_processing=False)

    def run_node(self, n: fx.Node) -> Any:
        """Labels of one node's output."""
        if n.op == "placeholder":
            if self._given is not None:
                return next(self._given)
            return (
                self.coupling.parameters[self._names[n.name]] if n.name in self._names else self.coupling.constants(n)
            )
        if n.op == "get_attr":
            return constant(value.shape) if isinstance(value := self.fetch_attr(str(n.target)), Tensor) else value
        args: Any = map_arg(n.args, lambda used: self.env[used])
        if n.op == "output":
            if self._given is not None:
                return args[0]
            self.coupling.pin_all(args, "it is an output of the model")
            return None
        if n.target is operator.getitem:
            return args[0][args[1]]
        self.coupling.enter(n)
        return self._operator(n, _positional(n, args, self.env))

    def _operator(self, node: fx.Node, args: tuple[Any, ...]) -> Any:
        name, coupling = operator_name(node) or str(node.target), self.coupling
        if name in SAME:
            return args[0]
        by_entry = name in ELEMENTWISE or torch.Tag.pointwise in getattr(node.target, "tags", ())
        if not by_entry and name not in SEVERAL and not (name in MOVES and isinstance(args[0], Labels)):
            args = coupling.of_one_dimension(args)
        labels = labels_in(args)
        if name in FILLED or name == "aten::_assert_tensor_metadata" or not labels:
            return coupling.constants(node)
        if name in self._rules:
            result = self._rules[name](coupling, node, args)
            if result is not None:
                return result
        if name in MOVES:
            return move(coupling, node, args)
        if by_entry and isinstance(node.meta["val"], Tensor):
            return elementwise(coupling, labels, node.meta["val"].shape)
        wrapped = [number for number, arg in enumerate(args) if isinstance(arg, fx.GraphModule)]
        if len(wrapped) == 1 and name in WRAPPERS:
            # What is found in a graph within the graph belongs to the whole.
            given = iter(args[wrapped[0] + 1 :])
            return Labeler(args[wrapped[0]], self._names, coupling, self._rules, given).label()
        if any(coupling.found.tensor(plane) for x in labels for plane in x.planes):
            coupling.found.unknown.setdefault(name, []).append(coupling.module)
        coupling.pin_all(args, f"{name} in {coupling.module or 'the model'} has no rule")
        return coupling.constants(node)


def _positional(node: fx.Node, args: Any, env: Mapping[fx.Node, Any]) -> tuple[Any, ...]:
    """The operator's positional arguments, defaults and keywords filled in."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return (*args, *map_arg(node.kwargs, lambda used: env[used]).values())
    kwargs = map_arg(node.kwargs, lambda used: env[used])
    filled = list(args)
    for argument in schema.arguments[len(args) :]:
        if argument.kwarg_only:
            if isinstance(kwargs.get(argument.name), Labels):
                filled.append(kwargs[argument.name])
            continue
        filled.append(kwargs.get(argument.name, argument.default_value))
    return tuple(filled)
