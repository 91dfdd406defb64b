"""Products of tensors: what is summed over is tied, what is carried goes on. A dimension is a letter, as in einsum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from autoprune.structure.graph.coupling import Coupling
from autoprune.structure.graph.labels import Labels, along, axis, constant, varies, vector
from autoprune.structure.graph.operators import output_shape
from autoprune.structure.graph.rules.elementwise import elementwise
from autoprune.structure.graph.rules.registry import rule


@rule("matmul", "mm", "bmm", "addmm", "baddbmm")
def matrix_product(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels | None:
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
    product = contraction(coupling, [left, right], letters, [*batch, "i", "j"], shape)
    return product if bias is None else elementwise(coupling, [product, bias], shape)


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
    return contraction(coupling, operands, letters, out, shape)


def _letters(term: str, ndim: int) -> list[str]:
    """The letters of one operand; the dimensions of an ellipsis are numbered from the last."""
    before, dots, after = term.partition("...")
    covered = ndim - len(before) - len(after) if dots else 0
    return [*before, *(f"b{number}" for number in reversed(range(covered))), *after]


def contraction(  # noqa: C901  one pass over letters
    coupling: Coupling,
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
                atoms = coupling.claim(axis(operand, dim), "output" if name in made else "input")
                vectors.setdefault(name, []).append(atoms)
            elif varies(operand.plane, dim):
                vectors.setdefault(name, []).append(vector(operand.plane, dim, coupling.ties))
                carried.add(name)
            elif size > 1:
                fixed[name] = True
    for name, found in vectors.items():
        for other in found[1:]:
            coupling.ties.tie(found[0], other)
        # Summed over together with, or multiplied by, entries that cannot go.
        if fixed.get(name):
            coupling.ties.pin(found[0], f"{coupling.ties.where} pairs them with what cannot be cut")
    weight = next((operand for operand in operands if operand.parameter), None)
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
    if not any(operand.parameter for operand in operands):
        for name in out:
            coupling.kind("head", vectors[name][0])
    if not out:
        return constant(shape)
    # Of several one goes on: what the operands share (heads), else what an activation carries.
    out.sort(key=lambda name: (len(vectors[name]) < 2, name not in carried))
    for name in out[1:]:
        coupling.ties.pin(vectors[name][0], f"{coupling.ties.where} spreads them over each other")
    return along(vectors[out[0]][0], made.index(out[0]), shape)
