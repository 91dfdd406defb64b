"""Numbers in a traced graph that the code computes of its inputs' sizes: computed in the graph, too."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.export import Dim, ShapesCollection
from torch.overrides import TorchFunctionMode

from autoprune.plugin import Inputs
from autoprune.structure.graph.operators import operator_name
from autoprune.structure.graph.trace import Traced, exported
from autoprune.structure.surgery.edits import normalise

Place = tuple[str, tuple[int, ...]]
"""A node's name, and where among its arguments: position, and position in a list."""
_PATIENCE_S = 5.0
"""CPU seconds for a trace. Without it a graph has the sizes of its example, and says so."""
_END = 2**63 - 1
"""End of a slice that has none."""


def symbolic_graph(network: nn.Module, inputs: Inputs) -> fx.Graph | None:
    """The graph of a second trace, in which sizes are symbols; None if there is none.

    Args:
        network: In any mode; left as it was.
        inputs: As of the first trace.
    """
    sizes = ShapesCollection()  # type: ignore[no-untyped-call]
    for tensor in inputs.tensors:
        sizes[tensor] = dict.fromkeys(range(tensor.ndim), Dim.AUTO)
    try:
        with _Patience():
            program, _ = exported(network, inputs, sizes)
    except Exception:  # noqa: BLE001  of dozens of types; the graph then has the sizes of the example
        return None
    graph: fx.Graph = program.graph_module.graph
    normalise(graph)
    return graph


class _Patience(TorchFunctionMode):
    """Ends a trace that takes too long: what a code asks of its sizes may be solved for minutes, mostly in vain."""

    def __init__(self) -> None:
        super().__init__()
        self._end = time.process_time() + _PATIENCE_S

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if time.process_time() > self._end:
            self._end = math.inf  # what is put back on the way out, such as gradients, comes through here as well
            raise TimeoutError("the trace of sizes as symbols takes too long")
        return func(*args, **(kwargs or {}))


def compute_sizes(graph: fx.Graph, nodes: Mapping[str, fx.Node], traced: Traced, other: fx.Graph) -> set[Place]:
    """Replace numbers by what computes them, but for those that hang on the number of samples alone.

    Args:
        graph: A copy of the traced one, changed.
        nodes: Its nodes by the names in the traced one.
        traced: The traced one.
        other: As `symbolic_graph` gives it.

    Returns:
        Places where that was done, by nodes' names in the traced graph; none where the graphs are not the same ones.
    """
    static = [node for node in traced.graph.graph.nodes if node.op != "output"]
    same = [node for node in other.nodes if _is_all_of_it(node)]
    dynamic = [node for node in other.nodes if node.op != "output" and not _is_number(node) and node not in same]
    if [(node.op, str(node.target)) for node in static] != [(node.op, str(node.target)) for node in dynamic]:
        return set()
    copies = {symbolic: nodes[node.name] for node, symbolic in zip(static, dynamic, strict=True)}
    for node in same:
        copies[node] = copies[node.all_input_nodes[0]]
    samples = {
        symbol for node in other.nodes if node.name in traced.inputs for symbol in _symbols(node.meta["val"].shape[0])
    }
    found = set()
    for node, symbolic in zip(static, dynamic, strict=True):
        for path, number in _numbers(node.args, symbolic.args):
            if _symbols(number.meta["val"]) <= samples:
                continue
            with graph.inserting_before(nodes[node.name]):
                value = _copied(graph, number, copies)
            nodes[node.name].args = with_argument(nodes[node.name].args, path, value)
            found.add((node.name, path))
    return found


def _numbers(static: Any, symbolic: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], fx.Node]]:
    """Where a number is computed."""
    if isinstance(static, tuple | list) and isinstance(symbolic, tuple | list) and len(static) == len(symbolic):
        for number, (a, b) in enumerate(zip(static, symbolic, strict=True)):
            yield from _numbers(a, b, (*path, number))
    elif type(static) is int and isinstance(symbolic, fx.Node) and _is_number(symbolic):
        yield path, symbolic


def _copied(graph: fx.Graph, node: fx.Node, copies: dict[fx.Node, fx.Node]) -> fx.Node:
    """What computes a number, and all that it takes for it."""
    if node not in copies:
        for each in node.all_input_nodes:
            if each not in copies:
                _copied(graph, each, copies)
        copies[node] = graph.node_copy(node, copies.__getitem__)
    return copies[node]


def _is_all_of_it(node: fx.Node) -> bool:
    """Whether a slice takes all, as those along symbols do that a trace of plain numbers leaves out."""
    if operator_name(node) != "aten::slice":
        return False
    given = dict(enumerate(node.args))
    start, end, step = given.get(2), given.get(3), given.get(4, 1)
    everything = end is None or (type(end) is int and end >= _END)
    return everything and start in (0, None) and step in (1, None)


def _symbols(number: Any) -> set[Any]:
    """What a number hangs on."""
    return set(number.node.expr.free_symbols) if isinstance(number, torch.SymInt | torch.SymFloat) else set()


def _is_number(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.SymInt | torch.SymFloat | torch.SymBool | int | float)


def with_argument(values: Any, path: tuple[int, ...], new: Any) -> Any:
    """Arguments of a node, one of which is another."""
    if not path:
        return new
    changed = list(values)
    changed[path[0]] = with_argument(changed[path[0]], path[1:], new)
    return tuple(changed) if isinstance(values, tuple) else changed
