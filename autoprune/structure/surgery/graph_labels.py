"""Labels for a graph whose own numbers can change: less stays than where code holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from autoprune.structure.graph.coupling import Coupling
from autoprune.structure.graph.labeler import Labeler
from autoprune.structure.graph.labels import Labels, along, varying, vector
from autoprune.structure.graph.operators import output_shape
from autoprune.structure.graph.rules.parts import slicing
from autoprune.structure.graph.rules.registry import Rules
from autoprune.structure.graph.rules.spatial import pad
from autoprune.structure.graph.rules.table import RULES
from autoprune.structure.graph.trace import Traced


class GraphCoupling(Coupling):
    """Notes, too, which operators lose whole groups."""

    def __init__(self, traced: Traced, choices: Mapping[str, int]) -> None:
        """As the coupling's."""
        super().__init__(traced, choices)
        self.whole: set[str] = set()
        """Nodes that lose whole groups."""

    def by_whole_groups(self, node: fx.Node, groups: int, size: int) -> bool:
        """As the coupling's; the nodes are kept."""
        whole = super().by_whole_groups(node, groups, size)
        if whole:
            self.whole.add(node.name)
        return whole


class GraphLabeler(Labeler):
    """Keeps the labels of every node of the graph, though not of graphs within it: nothing in those is changed."""

    def __init__(self, traced: Traced, coupling: GraphCoupling) -> None:
        """Get ready to run a traced graph."""
        super().__init__(traced.graph, traced.names, coupling, _RULES)
        self.coupling: GraphCoupling = coupling
        self.labels: dict[str, Any] = {}
        """By the nodes' names."""

    def run_node(self, n: fx.Node) -> Any:
        """Labels of one node's output, which are kept."""
        self.labels[n.name] = super().run_node(n)
        return self.labels[n.name]


# Rules that differ where numbers can be changed.


def _pad(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Any:
    """Padded entries of a dimension of units are units themselves, tied to whatever they meet."""
    x, amounts = args[0], list(args[1])
    mode = args[2] if isinstance(args[2], str) else "constant"
    dims = varying(x.plane) if not x.parameter else ()
    padded = {len(x.shape) - 1 - number // 2 for number, amount in enumerate(amounts) if amount}
    if mode != "constant" or len(dims) != 1 or dims[0] not in padded or min(amounts) < 0:
        return pad(coupling, node, args)
    (dim,) = dims
    shape = output_shape(node)
    left, right = amounts[2 * (len(x.shape) - 1 - dim) : 2 * (len(x.shape) - dim)]
    inner = vector(x.plane, dim, coupling.ties)
    atoms = coupling.new_atoms(node.name, dim, left + right, virtual=True)
    return along(torch.cat([atoms[:left], inner, atoms[left:]]), dim, shape)


def _parts(_: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Any:
    """Parts of any sizes lose what they lose."""
    x = args[0]
    dim = args[2] % len(x.shape)
    sizes = [value.shape[dim] for value in node.meta["val"]]
    split = zip(*(plane.split(sizes, dim) for plane in x.planes), strict=True)
    return tuple(Labels(planes, x.parameter) for planes in split)


def _slice(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Any:
    """A part of units loses what it loses; every second of them stays whole."""
    x, dim, start, end, step = args
    if step != 1:
        return slicing(coupling, node, args)
    index = (*[slice(None)] * (dim % len(x.shape)), slice(start, end))
    return Labels(tuple(plane[index] for plane in x.planes), x.parameter)


_RULES: Rules = {
    **RULES,
    "aten::pad": _pad,
    "aten::constant_pad_nd": _pad,
    "aten::split_with_sizes": _parts,
    "aten::slice": _slice,
}
