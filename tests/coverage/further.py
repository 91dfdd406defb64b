"""What a cut does elsewhere: in ``train()``, at another size of its inputs, opened from a folder in a new process."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.errors import StructureError
from autoprune.plugin import Data, Inputs, ModelSource, SourceContext
from autoprune.structure import Structure, load_pruned, write_pruned
from autoprune.structure.verify.training import in_training

from .zoo import Case, cases

Kept = dict[str, Tensor]
_EXPECTED = "expected.safetensors"
_NOISE = 1e-4
"""Deviations above this may be float32's; they are looked at in float64."""


def leaves(outputs: Any) -> list[Tensor]:
    """The floating-point tensors of what a network returns."""
    return [x for x in pytree.tree_leaves(outputs) if isinstance(x, Tensor) and x.is_floating_point()]


def apart(expected: list[Tensor], found: list[Tensor]) -> float:
    """Largest deviation, relative to max(1, largest output); infinite where one is not a number."""
    worst = 0.0
    for a, b in zip(expected, found, strict=True):
        difference = float((a.double() - b.double()).abs().max()) / max(1.0, float(a.abs().max()))
        worst = max(worst, difference if difference == difference else float("inf"))
    return worst


def trained(case: Case, network: nn.Module, structure: Structure, kept: Kept) -> float | str:
    """Deviation of sliced from masked in ``train()`` without dropout, batch norms on the batch's statistics.

    Statistics of a few samples divide by what is nearly 0: what float32 does not show is looked at in float64.
    """

    def deviation(dtype: torch.dtype) -> float:
        inputs = Inputs(tuple(x.to(dtype) if x.is_floating_point() else x for x in case.example(4, 5)))
        own = copy.deepcopy(network)  # what is not masked is shared with it, and gets another type
        pair = (structure.masked(own, kept), structure.cut(own, kept))
        with torch.no_grad():
            return apart(*(leaves(in_training(net.to(dtype), inputs)) for net in pair))

    try:
        with torch.no_grad():
            in_training(network, Inputs(case.example(4, 5)))
    except Exception:  # noqa: BLE001  the model's own code may raise anything
        return "the dense one does not run"
    single = deviation(torch.float32)
    if single < _NOISE:
        return single
    try:
        return deviation(torch.float64)
    except Exception:  # noqa: BLE001  a model may insist on float32
        return single


def resized(case: Case, network: nn.Module, structure: Structure, kept: Kept) -> float | str:
    """Deviation of sliced from masked on inputs of another size that the dense network takes, or that it is refused."""
    for inputs in _others(case.example(3, 6)):
        try:
            with torch.no_grad():
                network(*inputs)
        except Exception:  # noqa: BLE001  it takes no such inputs
            continue
        with torch.no_grad():
            expected = leaves(structure.masked(network, kept)(*inputs))
            try:
                found = leaves(structure.cut(network, kept)(*inputs))
            except StructureError:
                return "refused"
        return apart(expected, found)
    return "the dense one takes none"


def _others(inputs: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    """Twice and one and a half times as large and one more, along what is not channels, then the second dimension."""
    for scale, more in ((2.0, 0), (1.5, 0), (1.0, 1)):
        for dims in (range(2, 5), range(1, 2)):
            made = tuple(_along(x, dims if x.is_floating_point() else range(1, 2), scale, more) for x in inputs)
            if any(a.shape != b.shape for a, b in zip(made, inputs, strict=True)):
                yield made


def _along(x: Tensor, dims: range, scale: float, more: int) -> Tensor:
    for dim in dims:
        if dim < x.ndim:
            size = x.shape[dim]
            x = x.index_select(dim, torch.arange(int(scale * size) + more) % size)
    return x


class Zoo(ModelSource):
    """Stands in a recipe for the network that is handed over when it is opened."""

    name = "zoo"
    key: str

    def build(self, ctx: SourceContext) -> nn.Module:
        return next(case for case in cases(self.key.partition("/")[0]) if case.key == self.key).make()

    def load(self, data: Data, ctx: SourceContext) -> nn.Module:
        return self.build(ctx)


def save(case: Case, network: nn.Module, structure: Structure, kept: Kept, folder: Path) -> None:
    """Save a cut, and beside it what it gives."""
    small, inputs = structure.cut(network, kept), Inputs(case.example(3, 7))
    write_pruned(
        folder,
        small,
        plan=structure.plan(network, kept),
        kept=kept,
        cut_units={group.name: group.units - len(kept[group.name]) for group in structure.groups},
        source=Zoo(key=case.key),
        ctx=SourceContext(folder=folder, cache=folder, seed=0),
        example=inputs,
    )
    with torch.no_grad():
        outputs = leaves(inputs.feed(small))
    save_file({str(number): each.contiguous().clone() for number, each in enumerate(outputs)}, folder / _EXPECTED)


def report_opened(key: str, folder: Path, connection: Connection) -> None:
    """Send how far the saved cut is from what it gave, or why it does not open."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the models' own
    case = next(case for case in cases(key.partition("/")[0]) if case.key == key)
    try:
        network = load_pruned(folder, dense=case.make())
        expected = load_file(folder / _EXPECTED)
        with torch.no_grad():
            found = leaves(network(*case.example(3, 7)))
        connection.send({"opened": apart([expected[str(number)] for number in range(len(expected))], found)})
    except Exception as error:  # noqa: BLE001  whatever it is, it is the row's reason
        connection.send({"opened": f"{type(error).__name__}: {error}".partition("\n")[0][:200]})
