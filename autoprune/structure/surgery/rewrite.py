"""Which numbers in an exported graph are sizes of what is cut.

The code of a model may hold sizes where nobody can change them: ``x.view(-1, 16)``, zero-padded shortcuts, unequal
splits. In the exported graph they are arguments of operators, and the labels tell what each one counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from autoprune.structure.graph.labeler import Labeler
from autoprune.structure.graph.labeling import AtomRange
from autoprune.structure.graph.labels import Labels, along, axis, varies, varying, vector
from autoprune.structure.graph.operators import operator_name
from autoprune.structure.graph.rules.layers import RULES, output_shape
from autoprune.structure.graph.trace import Traced

_PARTS = frozenset(f"aten::{name}" for name in "chunk split unsafe_chunk unsafe_split tensor_split".split())
_MADE = frozenset(f"aten::{name}" for name in "zeros ones full new_zeros new_ones".split())


@dataclass(frozen=True)
class Edit:
    """An argument that counts units: it becomes the number of those that are kept."""

    node: str
    path: tuple[int, ...]
    """Where it stands: position among the arguments, and in a list."""
    labels: Tensor
    """What it counts."""


class GraphLabeler(Labeler):
    """Labels for a graph whose numbers can change: less stays than where code holds them."""

    def __init__(self, traced: Traced, choices: Mapping[str, int]) -> None:
        """As the labeler's."""
        super().__init__(traced, choices)
        self.rules = {**RULES, **_RULES}
        self.nodes = tuple(traced.graph.graph.nodes)
        self.planes: dict[str, Any] = {}
        self.whole: set[str] = set()

    def run_node(self, n: fx.Node) -> Any:
        """Labels of one node's output, which are kept."""
        result = super().run_node(n)
        self.planes[n.name] = result
        return result

    def by_whole_groups(self, node: fx.Node, groups: int, size: int) -> bool:
        """As the labeler's; the nodes are kept."""
        whole = super().by_whole_groups(node, groups, size)
        if whole:
            self.whole.add(node.name)
        return whole

    def _nested(self, graph: fx.GraphModule, given: Sequence[Any]) -> Any:
        # Its nodes have names of their own, and nothing in it is changed.
        planes, self.planes = self.planes, {}
        result = super()._nested(graph, given)
        self.planes = planes
        return result

    def virtual(self, node: fx.Node, dim: int, size: int) -> Tensor:
        """Atoms of entries that the graph makes itself and can make fewer of."""
        atoms = torch.arange(self.found.atoms, self.found.atoms + size)
        self.found.ranges.append(AtomRange(node.name, dim, self.found.atoms, size, virtual=True))
        self.found.atoms += size
        return atoms

    def constants(self, node: fx.Node) -> Any:
        """Constants; of those that are one value in a written size, every dimension can shrink."""
        value = node.meta.get("val")
        if operator_name(node) in _MADE and isinstance(value, Tensor) and value.ndim:
            planes = [
                along(self.virtual(node, dim, size), dim, value.shape).plane
                for dim, size in enumerate(value.shape)
                if size > 1
            ]
            if planes:
                return Labels(tuple(planes), parameter=True)
        return super().constants(node)


def normalise(graph: fx.Graph) -> None:
    """State what operators compute by themselves: the sizes of equal parts, and ends that count from the end."""
    for node in graph.nodes:
        if operator_name(node) in _PARTS and isinstance(node.meta.get("val"), tuple | list):
            dim = int(node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0))
            sizes = [part.shape[dim] for part in node.meta["val"]]
            node.target = torch.ops.aten.split_with_sizes.default
            node.args, node.kwargs = (node.args[0], sizes, dim), {}
        if operator_name(node) == "aten::narrow":
            source, dim, start, length = node.args
            node.target = torch.ops.aten.slice.Tensor
            node.args = (source, dim, start, start + length)
        if operator_name(node) == "aten::slice":
            size = node.all_input_nodes[0].meta["val"].shape[node.args[1] if len(node.args) > 1 else 0]
            ends = [end + size if isinstance(end, int) and -size <= end < 0 else end for end in node.args[2:4]]
            node.args = (*node.args[:2], *ends, *node.args[4:])


def find_edits(labeler: GraphLabeler) -> list[Edit]:
    """Every argument of the graph that counts units."""
    edits: list[Edit] = []
    for node in labeler.nodes:
        if node.op == "call_function":
            edits += [Edit(node.name, path, labels) for path, labels in _counts(labeler, node)]
    return edits


Counts = Iterator[tuple[tuple[int, ...], Tensor]]
"""Places of arguments, and the labels that they count."""


def _counts(labeler: GraphLabeler, node: fx.Node) -> Counts:
    name, made = operator_name(node), labeler.planes.get(node.name)
    if node.name in labeler.whole and isinstance(made, Labels):
        position = 1 if name == "aten::group_norm" else 6
        groups: Any = node.args[position]
        yield (position,), _along(made, 1).view(groups, -1)[:, 0]
    elif name == "aten::slice":
        yield from _sliced(node, labeler.planes[node.all_input_nodes[0].name])
    elif name in _COUNTS and made is not None:
        yield from _COUNTS[name](node, made)


def _listed(node: fx.Node, position: int, made: Labels, first: int) -> Counts:
    """A list of sizes of dimensions from ``first`` on; -1 needs no change."""
    sizes: Any = node.args[position]
    for number, size in enumerate(sizes):
        if isinstance(size, int) and size > 1 and (labels := _along(made, first + number)).any():
            yield (position, number), labels


def _sizes_at(position: int) -> Callable[[fx.Node, Labels], Counts]:
    return lambda node, made: _listed(node, position, made, 0)


def _unflattened(node: fx.Node, made: Labels) -> Counts:
    dim: Any = node.args[1]
    sizes: Any = node.args[2]
    yield from _listed(node, 2, made, dim % (len(made.shape) - len(sizes) + 1))


def _normalised(node: fx.Node, made: Labels) -> Counts:
    shape: Any = node.args[1]
    yield from _listed(node, 1, made, len(made.shape) - len(shape))


def _padded(node: fx.Node, made: Labels) -> Counts:
    amounts: Any = node.args[1]
    for number, amount in enumerate(amounts):
        dim = len(made.shape) - 1 - number // 2
        if amount > 0 and (labels := _along(made, dim)).any():
            yield (1, number), labels[:amount] if number % 2 == 0 else labels[-amount:]


def _split(node: fx.Node, made: tuple[Labels, ...]) -> Counts:
    dim: Any = node.args[2] if len(node.args) > 2 else 0
    for number, part in enumerate(made):
        if (labels := _along(part, dim)).any():
            yield (1, number), labels


def _sliced(node: fx.Node, source: Labels) -> Counts:
    dim: Any = node.args[1] if len(node.args) > 1 else 0
    labels = _along(source, dim)
    for position in (2, 3):
        end = node.args[position] if len(node.args) > position else None
        if isinstance(end, int) and 0 < end < len(labels) and labels.any():
            yield (position,), labels[:end]


_COUNTS: dict[str, Callable[[fx.Node, Any], Counts]] = {
    **{f"aten::{name}": _sizes_at(0) for name in "zeros ones full empty".split()},
    **{f"aten::{name}": _sizes_at(1) for name in "view reshape _unsafe_view expand broadcast_to new_zeros".split()},
    "aten::new_ones": _sizes_at(1),
    "aten::unflatten": _unflattened,
    "aten::layer_norm": _normalised,
    "aten::rms_norm": _normalised,
    "aten::pad": _padded,
    "aten::constant_pad_nd": _padded,
    "aten::split_with_sizes": _split,
}


def _along(x: Labels, dim: int) -> Tensor:
    """Labels along one dimension, zeros where they do not vary."""
    dim %= len(x.shape)
    if x.parameter:
        return axis(x, dim)
    if not varies(x.plane, dim):
        return torch.zeros(x.shape[dim], dtype=torch.int64)
    return x.plane.movedim(dim, 0).reshape(x.shape[dim], -1)[:, 0]


# Rules that differ where numbers can be changed.


def _pad(lab: GraphLabeler, node: fx.Node, args: tuple[Any, ...]) -> Any:
    """Padded entries of a dimension of units are units themselves, tied to whatever they meet."""
    x, amounts = args[0], list(args[1])
    mode = args[2] if isinstance(args[2], str) else "constant"
    dims = varying(x.plane) if not x.parameter else ()
    padded = {len(x.shape) - 1 - number // 2 for number, amount in enumerate(amounts) if amount}
    if mode != "constant" or len(dims) != 1 or dims[0] not in padded or min(amounts) < 0:
        return RULES["aten::pad"](lab, node, args)
    (dim,) = dims
    shape = output_shape(node)
    left, right = amounts[2 * (len(x.shape) - 1 - dim) : 2 * (len(x.shape) - dim)]
    inner = vector(x.plane, dim, lab.ties)
    atoms = lab.virtual(node, dim, left + right)
    return along(torch.cat([atoms[:left], inner, atoms[left:]]), dim, shape)


def _parts(_: GraphLabeler, node: fx.Node, args: tuple[Any, ...]) -> Any:
    """Parts of any sizes lose what they lose."""
    x = args[0]
    dim = args[2] % len(x.shape)
    sizes = [value.shape[dim] for value in node.meta["val"]]
    split = zip(*(plane.split(sizes, dim) for plane in x.planes), strict=True)
    return tuple(Labels(planes, x.parameter) for planes in split)


def _slice(lab: GraphLabeler, node: fx.Node, args: tuple[Any, ...]) -> Any:
    """A part of units loses what it loses; every second of them stays whole."""
    x, dim, start, end, step = args
    if step != 1:
        return RULES["aten::slice"](lab, node, args)
    index = (*[slice(None)] * (dim % len(x.shape)), slice(start, end))
    return Labels(tuple(plane[index] for plane in x.planes), x.parameter)


_RULES: dict[str, Any] = {
    "aten::pad": _pad,
    "aten::constant_pad_nd": _pad,
    "aten::split_with_sizes": _parts,
    "aten::slice": _slice,
}
