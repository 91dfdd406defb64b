"""Networks that run an exported graph: their tensors have the dense names, norms and dropouts are modules again."""

from __future__ import annotations

import copy
import itertools
import operator
from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from autoprune.errors import StructureError
from autoprune.structure.graph.operators import operator_name
from autoprune.structure.graph.trace import Traced, module_of
from autoprune.structure.surgery.free_sizes import Sizes, check_sizes

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class GraphNetwork(fx.GraphModule):
    """A network that runs an exported graph.

    Its parameters have the names that they had in the dense network. Batch norms and dropouts are modules, so that
    ``train()`` and ``eval()`` do what they do elsewhere. What the graph makes is made where its parameters are.
    """

    @property
    def sizes(self) -> Sizes:
        """What its inputs must have."""
        return next(node.args[1] for node in self.graph.nodes if node.target is check_sizes)

    def _apply(self, fn: Any, recurse: bool = True) -> GraphNetwork:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.follow()
        return self

    def follow(self) -> None:
        """Make what the graph makes where the parameters are: the device was written into it when it was traced."""
        first = next(itertools.chain(self.parameters(), self.buffers()), None)
        for module in self.modules():
            if first is None or not isinstance(module, fx.GraphModule):
                continue
            elsewhere = [n for n in module.graph.nodes if n.kwargs.get("device") not in (None, first.device)]
            for node in elsewhere:
                node.kwargs = {**node.kwargs, "device": first.device}
            if elsewhere:
                module.recompile()


_RESERVED = frozenset(dir(GraphNetwork)) - frozenset(dir(nn.Module))


def hollowed(network: GraphNetwork) -> nn.Module:
    """What a network that runs a graph holds, without the graph."""
    root = nn.Module()
    for held in ("_parameters", "_buffers", "_modules"):
        root.__dict__[held] = dict(network.__dict__[held])
    root.training = network.training
    return root


def check_names(network: nn.Module) -> None:
    """Refuse what cannot be held by a network of a graph.

    Raises:
        StructureError: A module or a tensor is called what that has of its own.
    """
    held = {name for name, _ in (*network.named_children(), *network.named_parameters(), *network.named_buffers())}
    if taken := _RESERVED & held:
        raise StructureError(
            f"the network of an exported graph cannot hold a module or tensor called {min(taken)!r}, which means "
            "something else there: rename it, or keep the model's own modules (`search_space.form: modules`)"
        )


def graph_network(root: nn.Module, graph: fx.Graph, extras: Mapping[str, Any], name: str, sizes: Sizes) -> GraphNetwork:
    """A network of a graph, with the tensors and modules of another by their names.

    Args:
        root: Holds those; changed.
        graph: Is changed, too.
        extras: What the graph reads besides.
        name: Class of the dense network.
        sizes: What its inputs must have; it refuses others.

    Raises:
        StructureError: A module or a tensor is called what a network of a graph has of its own.
    """
    check_names(root)
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    with graph.inserting_after(inputs[-1]):
        graph.call_function(check_sizes, (tuple(inputs), sizes))
    device = next((tensor.device for tensor in itertools.chain(root.parameters(), root.buffers())), None)
    for extra, value in extras.items():
        if isinstance(value, Tensor):
            root.register_buffer(extra, value.to(device, copy=True))
        else:
            # With a mode of its own: one network trains, another does not.
            root.add_module(extra, copy.deepcopy(value).to(device))
    for node in graph.nodes:
        module = root.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, _BatchNorm) and type(module) not in _NORMS:
            # One of a kind that does more, such as activate: the graph has the rest.
            module.__class__ = next(kind for kind in type(module).__mro__ if kind in _NORMS)
    network = GraphNetwork(root, graph, name)
    network.train(root.training)
    network.follow()
    return network


def from_program(program: ExportedProgram) -> GraphNetwork:
    """The network of an exported program, whose batch norms and dropouts are modules again."""
    traced = Traced.of(program, program.state_dict)
    shapes = [node.meta["val"].shape for node in traced.graph.graph.nodes if node.name in traced.inputs]
    sizes = tuple(tuple(size if isinstance(size, int) else None for size in shape) for shape in shapes)
    graph, nodes = opened(traced)
    root = _root(graph, traced, program)
    extras = bound(graph, nodes, traced, root)
    for node in graph.nodes:
        node.meta = {}
    return graph_network(root, graph, extras, "Exported", sizes)


def opened(traced: Traced) -> tuple[fx.Graph, dict[str, fx.Node]]:
    """A copy of a traced graph that takes and returns what the network does, and its nodes by their traced names."""
    graph, nodes = copied_graph(traced.graph.graph)
    for name, keyword in traced.inputs.items():
        if keyword:
            nodes[name].target = keyword
    (result,) = (node for node in graph.nodes if node.op == "output")
    result.args = (pytree.tree_unflatten(list(result.args[0]), traced.program.call_spec.out_spec),)
    return graph, nodes


def copied_graph(graph: fx.Graph) -> tuple[fx.Graph, dict[str, fx.Node]]:
    """A copy of a graph, and its nodes by the names in the old one."""
    new, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    result = new.graph_copy(graph, copies)
    new.output(result)
    return new, {old.name: new for old, new in copies.items()}


def bound(graph: fx.Graph, nodes: dict[str, fx.Node], traced: Traced, root: nn.Module) -> dict[str, Any]:
    """Turn placeholders of tensors into attributes; batch norms, dropouts and what is idle in ``eval()`` into modules.

    Args:
        graph: A copy of the traced one, changed.
        nodes: Its nodes by the names in the traced one, changed with it.
        traced: The traced one.
        root: Has the batch norms, and what is idle, by their names.

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
        elif operator_ == "aten::batch_norm" and isinstance(root.get_submodule(owner := _owner(node)), _BatchNorm):
            with graph.inserting_before(node):
                _replace(graph, nodes, name, graph.call_module(owner, (node.args[0],)))
        elif operator_ in _DROPOUTS:
            idle = (path := module_of(node)) in traced.idle
            held = root.get_submodule(path) if idle else _DROPOUTS[operator_](node)
            with graph.inserting_before(node):
                module = graph.call_module(extra("dropout", held), (node.args[0],))
                _replace(graph, nodes, name, module)
    for node in reversed(list(graph.nodes)):
        if node.op == "get_attr" and not node.users:
            extras.pop(str(node.target), None)
            graph.erase_node(node)
    return extras


def _of_features(node: fx.Node) -> nn.Module:
    given, rate, *_ = cast("tuple[fx.Node, float, bool]", node.args)
    kinds = {3: nn.Dropout1d, 4: nn.Dropout2d, 5: nn.Dropout3d}
    return kinds.get(given.meta["val"].ndim, nn.Dropout)(rate)


_DROPOUTS: Mapping[str, Callable[[fx.Node], nn.Module]] = {
    "aten::dropout": lambda node: nn.Dropout(node.args[1]),  # type: ignore[arg-type]
    "aten::feature_dropout": _of_features,
    "aten::alpha_dropout": lambda node: nn.AlphaDropout(node.args[1]),  # type: ignore[arg-type]
    "aten::feature_alpha_dropout": lambda node: nn.FeatureAlphaDropout(node.args[1]),  # type: ignore[arg-type]
}
"""An operator to the module that does the same, and heeds ``train()`` and ``eval()``."""


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
            held = next((each for each in node.args[1:5] if isinstance(each, fx.Node)), None)
            if held is None:  # a norm that code computes, of a weight say
                continue
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
