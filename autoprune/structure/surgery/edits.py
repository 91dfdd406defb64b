"""Which numbers in an exported graph are sizes of what is cut.

The code of a model may hold sizes where nobody can change them: ``x.view(-1, 16)``, zero-padded shortcuts, unequal
splits. In the exported graph they are arguments of operators, and the labels tell what each one counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from autoprune.structure.graph.labeler import freest
from autoprune.structure.graph.labeling import Labeling
from autoprune.structure.graph.labels import Labels, axis, varies
from autoprune.structure.graph.operators import operator_name
from autoprune.structure.graph.trace import Traced
from autoprune.structure.surgery.graph_labels import GraphCoupling, GraphLabeler

_PARTS = frozenset(f"aten::{name}" for name in "chunk split unsafe_chunk unsafe_split tensor_split".split())


@dataclass(frozen=True)
class Edit:
    """An argument that counts units: it becomes the number of those that are kept."""

    node: str
    path: tuple[int, ...]
    """Where it stands: position among the arguments, and in a list."""
    labels: Tensor
    """What it counts."""


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


def found_edits(traced: Traced, choices: Mapping[str, int]) -> tuple[Labeling, list[Edit]]:
    """What a run of a graph on labels finds where its numbers can change, and every argument that counts units.

    Args:
        traced: The exported model, its operators as `normalise` states them.
        choices: Which dimension carries the units after a node that spreads them over several.
    """

    def label(choices: Mapping[str, int]) -> GraphLabeler:
        labeler = GraphLabeler(traced, GraphCoupling(traced, choices))
        labeler.label()
        return labeler

    labeler = freest(label, choices)
    edits = [
        Edit(node.name, path, labels)
        for node in traced.graph.graph.nodes
        if node.op == "call_function"
        for path, labels in _counts(node, labeler.labels, labeler.coupling.whole)
    ]
    return labeler.coupling.found, edits


Counts = Iterator[tuple[tuple[int, ...], Tensor]]
"""Places of arguments, and the labels that they count."""


def _counts(node: fx.Node, known: Mapping[str, Any], whole: Set[str]) -> Counts:
    name, made = operator_name(node), known.get(node.name)
    if node.name in whole and isinstance(made, Labels):
        position = 1 if name == "aten::group_norm" else 6
        groups: Any = node.args[position]
        yield (position,), _along(made, 1).view(groups, -1)[:, 0]
    elif name == "aten::slice":
        yield from _sliced(node, known[node.all_input_nodes[0].name])
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


def _repeated(node: fx.Node, made: Labels) -> Counts:
    """Of repeats those count units that are of one entry."""
    for path, labels in _listed(node, 1, made, 0):
        repeats: Any = node.args[1]
        if repeats[path[1]] == len(labels):
            yield path, labels


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
    **{f"aten::{name}": _sizes_at(1) for name in "view reshape _unsafe_view expand broadcast_to".split()},
    **{f"aten::new_{name}": _sizes_at(1) for name in "zeros ones full empty".split()},
    "aten::repeat": _repeated,
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
    plane = next((plane for plane in x.planes if varies(plane, dim)), None)
    if plane is None:
        return torch.zeros(x.shape[dim], dtype=torch.int64)
    return plane.movedim(dim, 0).reshape(x.shape[dim], -1)[:, 0]
