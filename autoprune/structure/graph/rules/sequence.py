"""How attention and recurrent operators couple units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from autoprune.structure.graph.labels import Labels, along, axis, constant, varies, vector
from autoprune.structure.graph.rules.layers import output_shape, rule

if TYPE_CHECKING:
    from autoprune.structure.graph.labeler import Labeler

# Contractions. A dimension of an operand is a letter, as in einsum.


@rule("matmul", "mm", "bmm", "addmm", "baddbmm")
def matrix_product(lab: Labeler, node: fx.Node, args: tuple[Any, ...]) -> Labels | None:
    """(…, i, k) times (…, k, j), plus a bias where there is one."""
    bias, left, right = args if len(args) == 3 else (None, *args)
    if min(len(left.shape), len(right.shape)) < 2:
        return None
    shape = output_shape(node)
    batch = [f"b{n}" for n in range(len(shape) - 2)]
    letters = [
        [*batch[len(batch) - (len(left.shape) - 2) :], "i", "k"],
        [*batch[len(batch) - (len(right.shape) - 2) :], "k", "j"],
    ]
    product = contraction(lab, [left, right], letters, [*batch, "i", "j"], shape)
    return product if bias is None else lab.elementwise([product, bias], shape)


@rule("einsum")
def einsum(lab: Labeler, node: fx.Node, args: tuple[Any, ...]) -> Labels | None:
    """Any contraction that takes no diagonal."""
    equation, operands = args[0].replace(" ", ""), args[1]
    read, arrow, made = equation.partition("->")
    letters = [_letters(part, len(operand.shape)) for part, operand in zip(read.split(","), operands, strict=True)]
    if any(len(set(part)) < len(part) for part in letters):
        return None
    every = [letter for part in letters for letter in part]
    shape = output_shape(node)
    rest = sorted({letter for letter in every if every.count(letter) == 1 and len(letter) == 1})
    out = _letters(made if arrow else ("..." if "..." in read else "") + "".join(rest), len(shape))
    return contraction(lab, operands, letters, out, shape)


def _letters(term: str, ndim: int) -> list[str]:
    """The letters of one operand; the dimensions of an ellipsis are numbered from the last."""
    before, dots, after = term.partition("...")
    covered = ndim - len(before) - len(after) if dots else 0
    return [*before, *(f"b{number}" for number in reversed(range(covered))), *after]


def contraction(  # noqa: C901  one pass over letters
    lab: Labeler,
    operands: Sequence[Labels],
    letters: Sequence[Sequence[str]],
    made: Sequence[str],
    shape: torch.Size,
) -> Labels:
    """Ties what is summed over, and what several operands carry to the output; the rest goes on."""
    sizes: dict[str, int] = {}
    vectors: dict[str, list[Tensor]] = {}
    fixed: dict[str, bool] = {}
    carried: set[str] = set()
    for operand, names in zip(operands, letters, strict=True):
        for dim, name in enumerate(names):
            size = operand.shape[dim]
            sizes[name] = max(size, sizes.get(name, 1))
            if operand.parameter:
                atoms = lab.claim(axis(operand, dim), "output" if name in made else "input")
                vectors.setdefault(name, []).append(atoms)
            elif varies(operand.plane, dim):
                vectors.setdefault(name, []).append(vector(operand.plane, dim, lab.ties))
                carried.add(name)
            elif size > 1:
                fixed[name] = True
    for name, found in vectors.items():
        for other in found[1:]:
            lab.ties.tie(found[0], other)
        # Summed over together with, or multiplied by, entries that cannot go.
        if fixed.get(name):
            lab.ties.pin(found[0], f"{lab.ties.where} pairs them with what cannot be cut")
    weight = next((operand for operand in operands if operand.parameter), None)
    lab.macs(
        torch.Size([size for name, size in sizes.items() if name not in vectors]).numel(),
        *(found[0] for found in vectors.values()),
        weight=weight,
    )
    if weight is not None:
        names = letters[next(n for n, operand in enumerate(operands) if operand is weight)]
        outputs = [axis(weight, dim) for dim, name in enumerate(names) if name in made]
        if len(outputs) == 1:
            lab.makes(weight, outputs[0])
    out = [name for name in made if name in vectors]
    if not any(operand.parameter for operand in operands):
        for name in out:
            lab.kind("head", vectors[name][0])
    if not out:
        return constant(shape)
    # Of several one goes on: what the operands share (heads), else what an activation carries.
    out.sort(key=lambda name: (len(vectors[name]) < 2, name not in carried))
    for name in out[1:]:
        lab.ties.pin(vectors[name][0], f"{lab.ties.where} spreads them over each other")
    return along(vectors[out[0]][0], made.index(out[0]), shape)


@rule("scaled_dot_product_attention")
def attention(lab: Labeler, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Query (…, H, T, d), key (…, H', S, d), value (…, H', S, e): a head goes with its query, key and value.

    With H > H' (grouped-query attention) a key's head goes with all of its query heads.
    """
    query, key, value = (_heads(lab, x) for x in args[:3])
    if node.kwargs.get("scale") is None:
        for plane in (query, key):
            if varies(plane, -1):
                lab.ties.pin(plane, "attention is scaled by the number of them")
    read, of_key, made = (_entries(lab, plane) for plane in (query, key, value))
    lab.ties.tie(read, of_key)
    shape = output_shape(node)
    steps = shape[:-1].numel() * key.shape[-2]
    planes = (query, key, value)
    head = next((dim for dim in range(query.ndim - 2) if any(varies(plane, dim) for plane in planes)), None)
    if head is None:
        lab.macs(steps, read)
        lab.macs(steps, made)
        return along(made, len(shape) - 1, shape)
    heads, keys, values = (vector(plane, head, lab.ties) for plane in planes)
    lab.ties.tie(keys, values)
    lab.ties.tie(heads.view(len(keys), -1), keys.unsqueeze(1))
    lab.kind("head", keys)
    if len(args) > 3 and isinstance(args[3], Labels):
        _mask(lab, args[3], head - query.ndim, heads)
    lab.macs(steps // len(heads), heads, read)
    lab.macs(steps // len(heads), heads, made)
    return along(heads, head, shape)


def _heads(lab: Labeler, x: Labels) -> Tensor:
    """Labels of a query, key or value; one that is a parameter has its heads third from last."""
    return lab.carried(x, -3) if len(x.shape) > 2 else lab.carried(x, -1)


def _mask(lab: Labeler, mask: Labels, dim: int, heads: Tensor) -> None:
    """A mask (…, H, T, S) of a bias for every head goes with the heads."""
    if len(mask.shape) < -dim or mask.shape[dim] == 1:
        return
    plane = lab.carried(mask, dim)
    if varies(plane, dim % plane.ndim):
        lab.ties.tie(vector(plane, dim, lab.ties), heads)


def _entries(lab: Labeler, plane: Tensor) -> Tensor:
    """Labels of a head's entries, constant where the units are not among them."""
    return vector(plane, -1, lab.ties) if varies(plane, -1) else torch.zeros(plane.shape[-1], dtype=torch.int64)


# Recurrent layers: a hidden unit is a row of every gate, a column of the recurrent weight, and what reads it.

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@rule(*_GATES)
def recurrent(lab: Labeler, node: fx.Node, args: tuple[Any, ...]) -> Any:  # noqa: C901  one pass over all layers
    """Input (N, T, I) or (T, N, I); weights (gates × H, I) and (gates × H, H), an LSTM's projection (P, H).

    One module keeps one hidden size, so its layers and directions lose the same units.
    """
    if isinstance(args[1], list | tuple) and isinstance(args[2], bool):
        return None  # packed sequences
    x, states, params, has_biases, layers, _, _, bidirectional, _ = args
    gates = _GATES[str(node.target).split(".")[1]]
    directions = 2 if bidirectional else 1
    states = list(states) if isinstance(states, list | tuple) else [states]
    per_layer = len(params) // (layers * directions)
    projected = per_layer == (5 if has_biases else 3)
    reads = vector(x.plane, -1, lab.ties)
    cells: Tensor | None = None
    hidden: Tensor | None = None
    steps = x.shape[0] * x.shape[1]
    for layer in range(layers):
        made = []
        for direction in range(directions):
            first = (layer * directions + direction) * per_layer
            weights = params[first : first + per_layer]
            rows = lab.claim(axis(weights[0], 0), "output").view(gates, -1)
            lab.ties.tie(rows, rows[:1])
            for other in weights[1 : 4 if has_biases else 2]:
                role = "output" if other is weights[1] else "vector"
                lab.ties.tie(rows, lab.claim(axis(other, 0), role).view(gates, -1))  # type: ignore[arg-type]
            lab.ties.tie(reads, lab.claim(axis(weights[0], 1), "input"))
            cell = rows[0]
            lab.kind("hidden unit", cell)
            out = lab.claim(axis(weights[-1], 0), "output") if projected else cell
            if projected:
                # torch takes an LSTM whose hidden size has come down to its projection for one without.
                lab.ties.pin(cell, "an LSTM's hidden size must stay above its projection")
                lab.ties.tie(cell, lab.claim(axis(weights[-1], 1), "input"))
            back = lab.claim(axis(weights[1], 1), "input")
            lab.ties.tie(out, back)
            for kept, new in ((cells, cell), (hidden, out)):
                if kept is not None:
                    lab.ties.tie(kept, new)
            cells, hidden = cell if cells is None else cells, out if hidden is None else hidden
            lab.macs(steps, axis(weights[0], 0), reads, weight=weights[0])
            lab.macs(steps, axis(weights[1], 0), back, weight=weights[1])
            if projected:
                lab.macs(steps, out, cell, weight=weights[-1])
            made.append(out)
        reads = torch.cat(made)
    lab.makes(params[0], reads)
    assert hidden is not None  # noqa: S101  there is at least one layer
    assert cells is not None  # noqa: S101
    for state, units in zip(states, (hidden, cells), strict=False):
        if state.parameter:
            lab.ties.tie(axis(state, -1), units)
        elif state.plane.any():
            lab.ties.tie(vector(state.plane, -1, lab.ties), units)
    values = node.meta["val"]
    ends = (hidden, cells)
    return (
        along(reads, values[0].ndim - 1, values[0].shape),
        *(along(units, value.ndim - 1, value.shape) for value, units in zip(values[1:], ends, strict=False)),
    )
