"""The exported graph as the pruned model, for models whose own code cannot run with other sizes."""

from __future__ import annotations

import copy
import itertools
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from autoprune.errors import StructureError
from autoprune.plugin import Inputs
from autoprune.structure.graph.operators import operator_name
from autoprune.structure.graph.trace import Traced, trace
from autoprune.structure.surgery.rewrite import Edit, normalise

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

Place = tuple[str, tuple[int, ...]]
"""A node's name, and where among its arguments: position, and position in a list."""


class GraphNetwork(fx.GraphModule):
    """A network that runs an exported graph.

    Its parameters have the names that they had in the dense network. Batch norms and dropouts are modules, so that
    ``train()`` and ``eval()`` do what they do elsewhere.
    """


@dataclass(frozen=True)
class BlockNodes:
    """A residual block in the graph."""

    made: str
    """The node that it returns."""
    given: str
    """The node that its identity path begins at."""
    inside: frozenset[str]


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
    edits: tuple[tuple[Edit, int], ...] = ()
    """With what the count is divided by: a size that counts the units of all samples is stated for one."""

    def with_edits(self, edits: Iterable[Edit]) -> Template:
        """The same with the places where units are counted."""
        placed = []
        for edit in edits:
            if (node := self.scaled.get((edit.node, edit.path))) is not None:
                placed.append((Edit(node, (1,), edit.labels), self.batch))
            elif edit.node in self.names:
                placed.append((replace(edit, node=self.names[edit.node]), 1))
        return replace(self, edits=tuple(placed))

    def counting(self, unit_of_atom: Tensor) -> Template:
        """The same, its edits counting units instead of labels.

        Args:
            unit_of_atom: Label to its unit; -1 where there is none.
        """
        return replace(self, edits=tuple((replace(e, labels=unit_of_atom[e.labels]), by) for e, by in self.edits))

    def network(self, root: nn.Module, count: Callable[[Tensor], int], bypassed: Collection[str] = ()) -> GraphNetwork:
        """The graph on the tensors of a cut network.

        Args:
            root: Holds the tensors by their dense names; changed.
            count: What edits count to how much of it is kept.
            bypassed: Blocks that are left out.
        """
        graph, nodes = _copied(self.graph)
        for edit, share in self.edits:
            node = nodes[edit.node]
            node.args = _replaced(node.args, edit.path, count(edit.labels) // share)
        for name in bypassed:
            block = self.blocks[name]
            inside = [nodes[each] for each in block.inside]
            for user in [user for user in nodes[block.made].users if user not in inside]:
                user.replace_input_with(nodes[block.made], nodes[block.given])
            for node in sorted(inside, reverse=True):
                graph.erase_node(node)
        return graph_network(root, graph, self.extras, self.name)


def hollowed(network: GraphNetwork) -> nn.Module:
    """What a network that runs a graph holds, without the graph."""
    root = nn.Module()
    for held in ("_parameters", "_buffers", "_modules"):
        root.__dict__[held] = dict(network.__dict__[held])
    root.training = network.training
    return root


def graph_network(root: nn.Module, graph: fx.Graph, extras: Mapping[str, Any], name: str) -> GraphNetwork:
    """A network of a graph, with the tensors and modules of another by their names."""
    device = next((tensor.device for tensor in itertools.chain(root.parameters(), root.buffers())), None)
    for extra, value in extras.items():
        if isinstance(value, Tensor):
            root.register_buffer(extra, value.to(device, copy=True))
        else:
            root.add_module(extra, copy.deepcopy(value))  # a mode of its own: one network trains, another does not
    for node in graph.nodes:
        module = root.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, _BatchNorm) and type(module) not in _NORMS:
            # One of a kind that does more, such as activate: the graph has the rest.
            module.__class__ = next(kind for kind in type(module).__mro__ if kind in _NORMS)
    network = GraphNetwork(root, graph, name)
    network.train(root.training)
    return network


def make_template(network: nn.Module, inputs: Inputs, traced: Traced, blocks: Mapping[str, BlockNodes]) -> Template:
    """Make a traced graph independent of the batch size, with its tensors as attributes.

    A second trace with one more sample tells which numbers depend on the batch size, and how.

    Args:
        network: The dense network.
        inputs: What it was traced with.
        traced: Its graph.
        blocks: Its residual blocks.

    Raises:
        StructureError: The graph changes its own state, or is another one for another batch size.
    """
    if any(spec.kind is not OutputKind.USER_OUTPUT for spec in traced.program.graph_signature.output_specs):
        raise StructureError("its graph changes its own state")
    more = trace(network, inputs.map(lambda x: torch.cat([x, x[:1]])))
    for each in (traced, more):
        normalise(each.graph.graph)
    pairs = list(zip(traced.graph.graph.nodes, more.graph.graph.nodes, strict=False))
    if len(traced.graph.graph.nodes) != len(more.graph.graph.nodes) or any(
        (a.op, a.name) != (b.op, b.name) for a, b in pairs
    ):
        raise StructureError("its graph is another one for another batch size")
    graph, nodes = _opened(traced)
    scaled = _scale(graph, nodes, pairs, traced)
    extras = _bind(graph, nodes, traced, lambda owner: isinstance(network.get_submodule(owner), _BatchNorm))
    for node in graph.nodes:
        node.meta = {}
    graph.lint()
    there = {node.name for node in graph.nodes}
    names = {old: node.name for old, node in nodes.items() if node.name in there}
    placed = {
        name: BlockNodes(names[block.made], names[block.given], frozenset(names[n] for n in block.inside if n in names))
        for name, block in blocks.items()
    }
    tensors = _tensors(graph, network, extras)
    return Template(graph, traced.batch, scaled, placed, extras, tensors, type(network).__name__, names)


def from_program(program: ExportedProgram) -> GraphNetwork:
    """The network of an exported program, whose batch norms and dropouts are modules again."""
    traced = Traced.of(program, program.state_dict)
    graph, nodes = _opened(traced)
    root = _root(graph, traced, program)
    extras = _bind(graph, nodes, traced, lambda owner: isinstance(root.get_submodule(owner), _BatchNorm))
    for node in graph.nodes:
        node.meta = {}
    return graph_network(root, graph, extras, "Exported")


def _tensors(graph: fx.Graph, network: nn.Module, extras: Collection[str]) -> Set[str]:
    names = {str(node.target) for node in graph.nodes if node.op == "get_attr" and node.target not in extras}
    for node in graph.nodes:
        if node.op == "call_module" and node.target not in extras:
            names |= {f"{node.target}.{name}" for name in network.get_submodule(str(node.target)).state_dict()}
    return names


def _opened(traced: Traced) -> tuple[fx.Graph, dict[str, fx.Node]]:
    """A copy of a traced graph that takes and returns what the network does, and its nodes by their traced names."""
    graph, nodes = _copied(traced.graph.graph)
    for name, keyword in traced.inputs.items():
        if keyword:
            nodes[name].target = keyword
    (result,) = (node for node in graph.nodes if node.op == "output")
    result.args = (pytree.tree_unflatten(list(result.args[0]), traced.program.call_spec.out_spec),)
    return graph, nodes


def _copied(graph: fx.Graph) -> tuple[fx.Graph, dict[str, fx.Node]]:
    """A copy of a graph, and its nodes by the names in the old one."""
    new, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    result = new.graph_copy(graph, copies)
    new.output(result)
    return new, {old.name: new for old, new in copies.items()}


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
            nodes[before.name].args = _replaced(nodes[before.name].args, path, value)
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


def _replaced(values: Any, path: tuple[int, ...], new: Any) -> Any:
    if not path:
        return new
    changed = list(values)
    changed[path[0]] = _replaced(changed[path[0]], path[1:], new)
    return tuple(changed) if isinstance(values, tuple) else changed


def _bind(graph: fx.Graph, nodes: dict[str, fx.Node], traced: Traced, is_norm: Callable[[str], bool]) -> dict[str, Any]:
    """Turn placeholders of tensors into attributes, batch norms and dropouts into modules.

    Args:
        graph: A copy of the traced one, changed.
        nodes: Its nodes by the names in the traced one, changed with it.
        traced: The traced one.
        is_norm: Whether there is a batch norm of that name.

    Returns:
        What the graph reads besides parameters and buffers.
    """
    extras: dict[str, Any] = {}
    taken = {name.partition(".")[0] for name in traced.names.values()}

    def extra(kind: str, value: Any) -> str:
        name = next(f"{kind}_{k}" for k in itertools.count() if f"{kind}_{k}" not in taken)
        taken.add(name)
        extras[name] = value
        return name

    for name, node in list(nodes.items()):
        operator_ = operator_name(node)
        if node.op == "get_attr":
            node.target = extra("constant", operator.attrgetter(str(node.target))(traced.graph))
        elif node.op == "placeholder" and name not in traced.inputs:
            target = traced.names.get(name) or extra("constant", traced.constants.get(name))
            with graph.inserting_before(node):
                _replace(graph, nodes, name, graph.get_attr(target))
        elif operator_ == "aten::batch_norm" and is_norm(owner := _owner(node)):
            with graph.inserting_before(node):
                _replace(graph, nodes, name, graph.call_module(owner, (node.args[0],)))
        elif operator_ == "aten::dropout":
            rate: Any = node.args[1]
            with graph.inserting_before(node):
                module = graph.call_module(extra("dropout", nn.Dropout(rate)), (node.args[0],))
                _replace(graph, nodes, name, module)
    for node in reversed(list(graph.nodes)):
        if node.op == "get_attr" and not node.users:
            extras.pop(str(node.target), None)
            graph.erase_node(node)
    return extras


def _replace(graph: fx.Graph, nodes: dict[str, fx.Node], name: str, new: fx.Node) -> None:
    nodes[name].replace_all_uses_with(new)
    graph.erase_node(nodes[name])
    nodes[name] = new


def _owner(node: fx.Node) -> str:
    """Name of the module that holds the tensors of a batch norm."""
    held = next((each for each in node.args[1:5] if isinstance(each, fx.Node)), None)
    return str(held.target).rpartition(".")[0] if held is not None and held.op == "get_attr" else ""


def _root(graph: fx.Graph, traced: Traced, program: ExportedProgram) -> nn.Module:
    """Empty modules that hold the tensors of a program by their names; batch norms are batch norms."""
    root = nn.Module()
    kinds = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    norms: dict[str, nn.Module] = {}
    for node in graph.nodes:
        if operator_name(node) == "aten::batch_norm":
            held = next(each for each in node.args[1:5] if isinstance(each, fx.Node))
            name = traced.names.get(held.name, "")
            kind = kinds[node.args[0].meta["val"].ndim]
            norms[name.rpartition(".")[0]] = kind(
                1,
                eps=float(node.args[7]),
                momentum=float(node.args[6]) or None,  # 0 is what an average over all batches is in eval()
                affine=node.args[1] is not None,
                track_running_stats=node.args[3] is not None,
            )
    for name, tensor in program.state_dict.items():
        owner, _, attribute = name.rpartition(".")
        module = root
        path = ""
        for part in owner.split(".") if owner else ():
            path = f"{path}.{part}" if path else part
            if part not in module._modules:
                module.add_module(part, norms.get(path, nn.Module()))
            module = module.get_submodule(part)
        if isinstance(tensor, nn.Parameter):
            module.register_parameter(attribute, tensor)
        else:
            module.register_buffer(attribute, tensor)
    for norm in norms.values():
        norm.__dict__["num_features"] = next(len(tensor) for tensor in norm.state_dict().values() if tensor.ndim)
    return root
