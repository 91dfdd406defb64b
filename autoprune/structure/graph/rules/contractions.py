"""Products of tensors: what is summed over is tied, what is carried goes on. A dimension is a letter, as in einsum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from autoprune.structure.graph.coupling import Coupling
from autoprune.structure.graph.labels import Labels, along, axis, constant, varies, vector
from autoprune.structure.graph.operators import output_shape, short_name
from autoprune.structure.graph.rules.elementwise import elementwise
from autoprune.structure.graph.rules.registry import rule


@rule("matmul", "mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "dot", "vdot")
def matrix_product(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """(…, i, k) times (…, k, j), either of which may be a vector (k,), plus a bias where there is one."""
    bias, left, right = args if len(args) == 3 else (None, *args)
    shape = output_shape(node)
    batch = [f"b{n}" for n in range(max(len(left.shape), len(right.shape)) - 2)]
    rows, columns = (["i"] if len(left.shape) > 1 else []), (["j"] if len(right.shape) > 1 else [])
    letters = [
        [*batch[max(len(batch) - len(left.shape) + 2, 0) :], *rows, "k"],
        [*batch[max(len(batch) - len(right.shape) + 2, 0) :], "k", *columns],
    ]
    product = contraction(coupling, node, [left, right], letters, [*batch, *rows, *columns], shape)
    return product if bias is None else elementwise(coupling, [product, bias], shape)


@rule("transformers::grouped_mm_fallback")
def product_of_groups(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Rows times the matrices of their experts: what it stands for in a model's own code takes no odd widths."""
    coupling.pin_all(
        args,
        f"{coupling.module} runs its experts by grouped_mm, which takes widths of whole 16 bytes alone: make the model "
        "with experts_implementation='batched_mm'",
    )
    return constant(output_shape(node))


@rule("outer", "ger", "linalg_vecdot", "cosine_similarity", "tensordot", "cdist")
def vector_product(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Of all pairs of entries, or summed over pairs along some dimensions, as distances are."""
    left, right, *dims = args
    if dims == []:
        dims = [node.kwargs.get("dim", -1)]
    shape, name = output_shape(node), short_name(node)
    if name in ("outer", "ger"):
        return contraction(coupling, node, [left, right], ["i", "j"], ["i", "j"], shape)
    if name == "tensordot":
        letters = [[f"{side}{dim}" for dim in range(len(x.shape))] for side, x in (("l", left), ("r", right))]
        for a, b in zip(*dims, strict=True):
            letters[1][b] = letters[0][a]
        summed = {letters[0][a] for a in dims[0]}
        made = [letter for part in letters for letter in part if letter not in summed]
        return contraction(coupling, node, [left, right], letters, made, shape)
    if name == "cdist":
        batch = [f"b{dim}" for dim in range(len(shape) - 2)]
        letters = [[*batch[len(batch) - len(x.shape) + 2 :], row, "k"] for row, x in (("i", left), ("j", right))]
        return contraction(coupling, node, [left, right], letters, [*batch, "i", "j"], shape)
    ndim = max(len(left.shape), len(right.shape))
    every = [f"d{dim}" for dim in range(ndim)]
    gone = every[dims[0]]
    made = [letter for letter in every if letter != gone]
    letters = [every[ndim - len(x.shape) :] for x in (left, right)]
    return contraction(coupling, node, [left, right], letters, made, shape)


@rule("einsum")
def einsum(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels | None:
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
    return contraction(coupling, node, operands, letters, out, shape)


def _letters(term: str, ndim: int) -> list[str]:
    """The letters of one operand; the dimensions of an ellipsis are numbered from the last."""
    before, dots, after = term.partition("...")
    covered = ndim - len(before) - len(after) if dots else 0
    return [*before, *(f"b{number}" for number in reversed(range(covered))), *after]


def contraction(  # noqa: C901  one pass over letters
    coupling: Coupling,
    node: fx.Node,
    operands: Sequence[Labels],
    letters: Sequence[Sequence[str]],
    made: Sequence[str],
    shape: torch.Size,
) -> Labels:
    """Ties what is summed over, and what several operands carry to the output; of the rest one dimension goes on."""
    sizes: dict[str, int] = {}
    vectors: dict[str, list[Tensor]] = {}
    fixed: set[str] = set()
    carried: set[str] = set()
    sources: dict[str, set[int]] = {}
    filled: list[tuple[str, Tensor]] = []
    weight: Labels | None = None
    for number, (operand, names) in enumerate(zip(operands, letters, strict=True)):
        for dim, name in enumerate(names):
            size = operand.shape[dim]
            sizes[name] = max(size, sizes.get(name, 1))
            atoms = axis(operand, dim) if operand.parameter else None
            if atoms is not None and coupling.is_weight(atoms):
                weight = weight or operand
                vectors.setdefault(name, []).append(coupling.claim(atoms, "output" if name in made else "input"))
                sources.setdefault(name, set()).add(number)
            elif atoms is not None and atoms.any():
                filled.append((name, atoms))
            elif atoms is None and any(varies(plane, dim) for plane in operand.planes):
                plane = next(plane for plane in operand.planes if varies(plane, dim))
                vectors.setdefault(name, []).append(vector(plane, dim, coupling.ties))
                sources.setdefault(name, set()).add(number)
                carried.add(name)
            elif size > 1:
                fixed.add(name)
    for name, atoms in filled:
        if name in vectors:
            vectors[name].append(atoms)
        else:
            coupling.ties.pin(atoms, f"used whole by {coupling.ties.where}")
    for name, found in vectors.items():
        for other in found[1:]:
            coupling.ties.tie(found[0], other)
        # Summed over together with, or multiplied by, entries that cannot go.
        if name in fixed:
            coupling.ties.pin(found[0], f"{coupling.ties.where} pairs them with what cannot be cut")
    coupling.macs(
        torch.Size([size for name, size in sizes.items() if name not in vectors]).numel(),
        *(found[0] for found in vectors.values()),
        weight=weight,
    )
    if weight is not None:
        names = letters[next(n for n, operand in enumerate(operands) if operand is weight)]
        outputs = [axis(weight, dim) for dim, name in enumerate(names) if name in made]
        if len(outputs) == 1:
            coupling.makes(weight, outputs[0])
    out = [name for name in made if name in vectors]
    if weight is None:
        for name in out:
            coupling.kind("head", vectors[name][0])
    if not out:
        return constant(shape)
    # Of several one goes on: of those that can go what the operands share (heads), else what an activation carries.
    likely = [name for name in out if name not in fixed] or out
    likely.sort(key=lambda name: (len(vectors[name]) < 2, name not in carried))
    goes_on = likely[0]
    if len(likely) > 1:
        goes_on = likely[coupling.chosen(node, len(likely), [vectors[name][0] for name in likely])]
    # What one operand brings along goes on beside what another does.
    going = [goes_on, *(name for name in likely if not sources[name] & sources[goes_on])][:2]
    for name in out:
        if name not in going:
            coupling.ties.pin(vectors[name][0], f"{coupling.ties.where} spreads them over each other")
    return Labels(tuple(along(vectors[name][0], made.index(name), shape).plane for name in going))
