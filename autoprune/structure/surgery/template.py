"""The exported graph as the pruned model, for models whose own code cannot run with other sizes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import OutputKind

from autoprune.errors import StructureError
from autoprune.plugin import Inputs
from autoprune.structure.graph.operators import operator_name
from autoprune.structure.graph.trace import Traced, trace
from autoprune.structure.graph.untraceable import place_of, told
from autoprune.structure.groups.blocks import BlockNodes
from autoprune.structure.surgery.edits import Edit, normalise
from autoprune.structure.surgery.free_sizes import Sizes, agree, free_sizes, sizes_of
from autoprune.structure.surgery.graph_network import GraphNetwork, bound, copied_graph, graph_network, opened
from autoprune.structure.surgery.plan import Plan
from autoprune.structure.surgery.slicing import apply
from autoprune.structure.surgery.symbolic import Place, compute_sizes, symbolic_graph, with_argument


@dataclass(frozen=True)
class Template:
    """A graph that runs at any batch size, and where units are counted in it."""

    graph: fx.Graph
    batch: int
    """Samples in the example."""
    scaled: Mapping[Place, str]
    """Sizes that are a multiple of the batch size, to the node that multiplies."""
    blocks: Mapping[str, BlockNodes]
    extras: Mapping[str, Any]
    """Constants and graphs within the graph, by the names that it reads them by."""
    tensors: Set[str]
    """Names of the parameters and buffers that it has."""
    name: str
    """Class of the dense network."""
    names: Mapping[str, str]
    """Node of the traced graph to its name here."""
    sizes: Sizes
    """What its inputs must have."""
    symbolic: Set[Place] = frozenset()
    """Where it computes what hangs on its inputs' sizes, by names of the traced graph."""
    freed: Template | None = None
    """The same with more sizes free, which must not count units where it computes."""
    computed: tuple[Tensor, ...] = ()
    """What would be counted there."""
    found: tuple[Edit, ...] = ()
    """Where units are counted in the traced graph."""
    edits: tuple[tuple[Edit, int], ...] = ()
    """With what the count is divided by: a size that counts the units of all samples is stated for one."""

    def of_sizes(self, sizes: Sizes) -> Template:
        """The same for inputs of those sizes alone."""
        return replace(self, sizes=sizes, freed=self.freed and self.freed.of_sizes(sizes))

    def with_edits(self, edits: Iterable[Edit]) -> Template:
        """The same with the places where units are counted."""
        edits, placed, computed = tuple(edits), list[tuple[Edit, int]](), list[Tensor]()
        for edit in edits:
            if (edit.node, edit.path) in self.symbolic:
                computed.append(edit.labels)
            elif (node := self.scaled.get((edit.node, edit.path))) is not None:
                placed.append((Edit(node, (1,), edit.labels), self.batch))
            elif edit.node in self.names:
                placed.append((replace(edit, node=self.names[edit.node]), 1))
        freed = self.freed.with_edits(edits) if self.freed is not None else None
        return replace(self, found=edits, edits=tuple(placed), computed=tuple(computed), freed=freed)

    def counting(self, unit_of_atom: Tensor) -> Template:
        """The same, its edits counting units instead of labels; with more sizes free if none counts where it computes.

        Args:
            unit_of_atom: Label to its unit; -1 where there is none.
        """
        freed = self.freed
        if freed is not None and not any(bool((unit_of_atom[labels] >= 0).any()) for labels in freed.computed):
            return freed.counting(unit_of_atom)
        return replace(self, edits=tuple((replace(e, labels=unit_of_atom[e.labels]), by) for e, by in self.edits))

    def network(self, root: nn.Module, count: Callable[[Tensor], int], bypassed: Collection[str] = ()) -> GraphNetwork:
        """The graph on the tensors of a cut network.

        Args:
            root: Holds the tensors by their dense names; changed.
            count: What edits count to how much of it is kept.
            bypassed: Blocks that are left out.
        """
        graph, nodes = copied_graph(self.graph)
        for edit, share in self.edits:
            node = nodes[edit.node]
            node.args = with_argument(node.args, edit.path, count(edit.labels) // share)
        for name in bypassed:
            block = self.blocks[name]
            inside = [nodes[each] for each in block.inside]
            for user in [user for user in nodes[block.made].users if user not in inside]:
                user.replace_input_with(nodes[block.made], nodes[block.given])
            for node in sorted(inside, reverse=True):
                graph.erase_node(node)
        return graph_network(root, graph, self.extras, self.name, self.sizes)


class TemplateMaker:
    """Makes a traced graph independent of the batch size, with its tensors as attributes.

    A second trace with one more sample tells which numbers depend on the batch size, and how.
    """

    def __init__(self, network: nn.Module, inputs: Inputs, traced: Traced, blocks: Mapping[str, BlockNodes]) -> None:
        """Look at the graph.

        Args:
            network: The dense network.
            inputs: What it was traced with.
            traced: Its graph.
            blocks: Its residual blocks.

        Raises:
            StructureError: The graph changes its own state, is another one for another batch size, or calls operators
                that are none of PyTorch's.
        """
        if any(spec.kind is not OutputKind.USER_OUTPUT for spec in traced.program.graph_signature.output_specs):
            raise StructureError("its graph changes its own state")
        _check_operators(traced.graph)
        more = trace(network, inputs.map(lambda x: torch.cat([x, x[:1]])))
        for each in (traced, more):
            normalise(each.graph.graph)
        pairs = list(zip(traced.graph.graph.nodes, more.graph.graph.nodes, strict=False))
        if len(traced.graph.graph.nodes) != len(more.graph.graph.nodes) or any(
            (a.op, a.name) != (b.op, b.name) for a, b in pairs
        ):
            raise StructureError("its graph is another one for another batch size")
        self._network, self._inputs, self._traced = network, inputs, traced
        self._blocks, self._pairs = blocks, pairs

    def template(self) -> Template:
        """For inputs of the example's sizes, any number of them.

        Raises:
            StructureError: The graph computes something else of another batch size.
        """
        made = self._made(None)
        if not self._at_any_batch_size(made):
            raise StructureError("its graph computes something else of another batch size")
        return made

    def _at_any_batch_size(self, template: Template) -> bool:
        """Whether the whole graph gives what the network does for more samples than told what hangs on their number."""
        graph = template.network(apply(self._network, Plan({})), len)
        more = [self._inputs.map(lambda x, m=m: torch.cat([x, x, x[:m]])) for m in (0, 1)]  # type: ignore[misc]
        return not any(agree(self._network, graph, inputs) is False for inputs in more)

    def freed(self, template: Template) -> Template:
        """The same for as many sizes of the inputs as may be.

        Args:
            template: For the example's sizes, with the places where units are counted.
        """
        made, narrower = self._tried(template)
        if narrower and (other := symbolic_graph(self._network, self._inputs)) is not None:
            freed, _ = self._tried(self._made(other))
            # The trace of symbols may have the example's batch size written down.
            if freed.symbolic and freed.sizes != made.sizes and self._at_any_batch_size(freed):
                made = replace(made, freed=freed.with_edits(template.found))
        return made

    def _tried(self, template: Template) -> tuple[Template, bool]:
        """With its free sizes, and whether the dense network takes sizes that it does not."""
        anyhow = tuple((None,) * tensor.ndim for tensor in self._inputs.tensors)
        graph = template.of_sizes(anyhow).network(apply(self._network, Plan({})), len)
        sizes, narrower = free_sizes(self._network, graph, self._inputs)
        return template.of_sizes(sizes), narrower

    def _made(self, other: fx.Graph | None) -> Template:
        """From the graph in which sizes of inputs are symbols; with those of the example if None."""
        network, traced = self._network, self._traced
        graph, nodes = opened(traced)
        scaled = _scale(graph, nodes, self._pairs, traced)
        symbolic = frozenset(compute_sizes(graph, nodes, traced, other)) if other is not None else frozenset[Place]()
        extras = bound(graph, nodes, traced, network)
        for node in graph.nodes:
            node.meta = {}
        graph.lint()
        there = {node.name for node in graph.nodes}
        names = {old: node.name for old, node in nodes.items() if node.name in there}
        placed = {
            name: BlockNodes(
                names[block.made], names[block.given], frozenset(names[n] for n in block.inside if n in names)
            )
            for name, block in self._blocks.items()
        }
        tensors, sizes = _tensors(graph, network, extras), sizes_of(self._inputs)
        name = type(network).__name__
        return Template(graph, traced.batch, scaled, placed, extras, tensors, name, names, sizes, symbolic)


_LIBRARIES = frozenset(("aten", "prims", "torchvision"))
"""Whose operators a saved graph may call."""


def _check_operators(graph: fx.GraphModule) -> None:
    """Refuse a graph that could be cut and saved, but not opened.

    Raises:
        StructureError: It calls operators that are none of PyTorch's.
    """
    graphs = [module for module in graph.modules() if isinstance(module, fx.GraphModule)]
    for node in (node for each in graphs for node in each.graph.nodes):
        if isinstance(node.target, torch._ops.OpOverload) and node.target.namespace not in _LIBRARIES:
            raise StructureError(
                f"its code {told(place_of(node))}calls {operator_name(node)}, which is none of PyTorch's operators, so "
                "that a saved graph could not be opened: keep the model's own modules, or write it in PyTorch's"
            )


def _tensors(graph: fx.Graph, network: nn.Module, extras: Collection[str]) -> Set[str]:
    names = {str(node.target) for node in graph.nodes if node.op == "get_attr" and node.target not in extras}
    for node in graph.nodes:
        if node.op == "call_module" and node.target not in extras:
            names |= {f"{node.target}.{name}" for name in network.get_submodule(str(node.target)).state_dict()}
    return names


def _scale(
    graph: fx.Graph, nodes: Mapping[str, fx.Node], pairs: Sequence[tuple[fx.Node, fx.Node]], traced: Traced
) -> dict[Place, str]:
    """Compute what depends on the batch size from the first input's.

    Returns:
        Arguments that are a multiple of the batch size, to the node that multiplies.
    """
    scaled: dict[Place, str] = {}
    size: fx.Node | None = None
    for before, after in pairs:
        for path, small, large in _different(before.args, after.args):
            if size is None:
                first = nodes[next(iter(traced.inputs))]
                with graph.inserting_after(first):
                    size = graph.call_function(torch.ops.aten.sym_size.int, (first, 0))
                _after_placeholders(graph, size)
            slope = large - small
            with graph.inserting_before(nodes[before.name]):
                value = graph.call_function(operator.mul, (size, slope))
                if offset := small - slope * traced.batch:
                    value = graph.call_function(operator.add, (value, offset))
                else:
                    scaled[before.name, path] = value.name
            nodes[before.name].args = with_argument(nodes[before.name].args, path, value)
    return scaled


def _after_placeholders(graph: fx.Graph, node: fx.Node) -> None:
    last = [each for each in graph.nodes if each.op == "placeholder"][-1]
    if last is not node.prev:
        last.append(node)


def _different(left: Any, right: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Numbers that differ between two arguments, with their place."""
    if isinstance(left, tuple | list) and isinstance(right, tuple | list) and len(left) == len(right):
        for number, (a, b) in enumerate(zip(left, right, strict=True)):
            yield from _different(a, b, (*path, number))
    elif type(left) is int and type(right) is int and left != right:
        yield path, left, right
