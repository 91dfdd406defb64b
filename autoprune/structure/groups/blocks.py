"""Depth: residual blocks and transformer layers that can be left out.

A block can go where an identity path leads around it: its output is its input plus something. It then is replaced by
that path (Huang et al., "Deep Networks with Stochastic Depth", arXiv:1603.09382, drop blocks so in training; Chen and
Zhao, "Shallowing Deep Networks", TPAMI 2019, prune them).
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from autoprune.plugin import Group, Inputs
from autoprune.structure.graph.operators import ELEMENTWISE, MOVES, SAME, operator_name
from autoprune.structure.graph.trace import Traced, evaluating, modules_of

_NORMS = frozenset(f"aten::{kind}_norm" for kind in ("batch", "layer", "group", "instance", "rms"))


@dataclass(frozen=True)
class BlockNodes:
    """A residual block in the graph."""

    made: str
    """The node that it returns."""
    given: str
    """The node that its identity path begins at."""
    inside: frozenset[str]


def find_blocks(network: nn.Module, inputs: Inputs, traced: Traced) -> dict[str, int]:
    """Names of the innermost blocks with a way around them, in the order of the network.

    A block is an item of an ``nn.Sequential`` or ``nn.ModuleList``, or one of several modules of a class in one
    module.

    Returns:
        Block to the length of the tuple that it returns, 0 for a bare tensor.
    """
    calls = _calls(network, inputs)
    inside = _inside(traced)
    found = [
        name for name in calls if _repeated(network, name) and inside[name] and _identity_path(inside[name]) is not None
    ]
    return {name: calls[name] for name in found if not any(other.startswith(f"{name}.") for other in found)}


def block_groups(network: nn.Module, blocks: Sequence[str]) -> tuple[Group, ...]:
    """One group for all blocks of a class."""
    by_class: dict[str, list[str]] = defaultdict(list)
    for name in blocks:
        by_class[type(network.get_submodule(name)).__name__].append(name)
    return tuple(
        Group(
            "blocks" if len(by_class) == 1 else f"blocks.{kind}",
            len(names),
            "block",
            tuple(names),
            owned=tuple(
                tuple(f"{name}.{parameter}" for parameter, _ in network.get_submodule(name).named_parameters())
                for name in names
            ),
        )
        for kind, names in by_class.items()
        if len(names) > 1
    )


def block_nodes(traced: Traced, blocks: Iterable[str]) -> dict[str, BlockNodes]:
    """Where blocks are in the graph."""
    inside = _inside(traced)
    found = {}
    for name in blocks:
        given = _identity_path(inside[name])
        (made,) = (node for node in inside[name] if any(user not in inside[name] for user in node.users))
        if given is not None:
            found[name] = BlockNodes(made.name, given.name, frozenset(node.name for node in inside[name]))
    return found


def _inside(traced: Traced) -> dict[str, set[fx.Node]]:
    """Module to the nodes that its code, or its children's, makes."""
    inside: dict[str, set[fx.Node]] = defaultdict(set)
    for node in traced.graph.graph.nodes:
        for path in modules_of(node):
            inside[path].add(node)
    return inside


def _calls(network: nn.Module, inputs: Inputs) -> dict[str, int]:
    """Modules with parameters called once, whose (first) output has the shape of their first argument."""
    seen: dict[str, list[int | None]] = defaultdict(list)

    def watch(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            first = output[0] if isinstance(output, tuple) and output else output
            alike = bool(args) and isinstance(args[0], Tensor) and isinstance(first, Tensor)
            if alike and args[0].shape == first.shape:
                seen[name].append(len(output) if isinstance(output, tuple) else 0)
            else:
                seen[name].append(None)

        return hook

    handles = [
        module.register_forward_hook(watch(name))
        for name, module in network.named_modules()
        if name and any(True for _ in module.parameters())
    ]
    try:
        with evaluating(network), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the model's own
            inputs.feed(network)
    finally:
        for handle in handles:
            handle.remove()
    return {name: found[0] for name, found in seen.items() if len(found) == 1 and found[0] is not None}


def _repeated(network: nn.Module, name: str) -> bool:
    parent = network.get_submodule(name.rpartition(".")[0])
    if isinstance(parent, nn.Sequential | nn.ModuleList):
        return True
    kind = type(network.get_submodule(name))
    return sum(type(child) is kind for child in parent.children()) > 1


def _identity_path(inside: set[fx.Node]) -> fx.Node | None:
    """The input that reaches the block's only output by additions, norms and activations alone."""
    outputs = [node for node in inside if any(user not in inside for user in node.users)]
    if len(outputs) != 1:
        return None
    shape = _shape(outputs[0])
    entering = {
        source for node in inside for source in node.all_input_nodes if source not in inside and _shape(source) == shape
    }
    if len(entering) != 1:
        return None
    todo, done = [(outputs[0], False)], set()
    while todo:
        node, added = todo.pop()
        if node in entering:
            if added:
                return node
            continue
        if node not in inside or (node, added) in done:
            continue
        done.add((node, added))
        name = operator_name(node)
        sources = node.all_input_nodes
        if name == "aten::add":
            todo.extend((source, True) for source in sources)
        elif name in SAME | MOVES | _NORMS or (_pointwise(node, name) and len(sources) == 1):
            todo.append((sources[0], added))
    return None


def _pointwise(node: fx.Node, name: str) -> bool:
    return name in ELEMENTWISE or torch.Tag.pointwise in getattr(node.target, "tags", ())


def _shape(node: fx.Node) -> torch.Size | None:
    value: Mapping[str, Any] | Any = node.meta.get("val")
    return value.shape if isinstance(value, Tensor) else None
