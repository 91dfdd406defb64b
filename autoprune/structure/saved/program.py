"""Exported programs as files: models that need no code of anyone's to open. Nothing in them is unpickled."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, ShapesCollection

from autoprune.errors import StructureError
from autoprune.plugin import Inputs
from autoprune.structure.graph.outputs import counting
from autoprune.structure.graph.trace import exported
from autoprune.structure.graph.untraceable import quietly, untraceable
from autoprune.structure.saved.archive import Archive, opened_archive
from autoprune.structure.surgery.graph_network import GraphNetwork, check_names, from_program

T = TypeVar("T")


def save_program(
    network: nn.Module, inputs: Inputs | Tensor | Sequence[Tensor] | Mapping[str, Tensor], file: str | Path
) -> None:
    """Export a network in ``eval()`` to a ``.pt2`` file that `load_program` opens, for any batch size.

    Other sizes of the inputs are those of the example; what is an exported graph already keeps those that are free.

    What the program returns are tensors in plain dicts, tuples and lists. Dropouts are in it, other modules that do
    nothing in ``eval()``, such as stochastic depth, are not.

    Args:
        network: Left as it was.
        inputs: Example inputs, positional or by keyword, each of shape (N, …), N ≥ 2.
        file: Is overwritten.

    Raises:
        StructureError: ``torch.export`` cannot trace it, or not for any batch size: its code takes a keyword that its
            signature does not name. Or a module is called what it could not be called when it is opened.
    """
    if not isinstance(network, GraphNetwork):
        check_names(network)
    given, sizes = Inputs.of(inputs), ShapesCollection()  # type: ignore[no-untyped-call]
    for number, tensor in enumerate(given.tensors):
        own = network.sizes[number] if isinstance(network, GraphNetwork) else (None, *tensor.shape[1:])
        sizes[tensor] = {dim: Dim.AUTO for dim, size in enumerate(own) if size is None}
    named = inspect.signature(network.forward).parameters
    if unnamed := [name for name in given.kwargs if name not in named]:
        raise StructureError(
            f"{type(network).__name__} takes {unnamed[0]} by **: torch.export cannot trace that for any batch size; "
            "name it in the signature of forward()"
        )
    with quietly(), counting(network):
        try:
            program, _ = exported(network, given, sizes)
        except Exception as error:
            raise untraceable(network, error) from error
        program.example_inputs = None  # they would be pickled
        torch.export.save(program, file)
    try:
        _told(Path(file), lambda: _check(Path(file)))
    except StructureError:
        Path(file).unlink()
        raise


def load_program(file: str | Path) -> GraphNetwork:
    """Open an exported program, in ``eval()``. Nothing in it runs, be it made to deceive.

    Tensors are read as plain numbers, and of the program only operators of PyTorch on tensors, sizes and their
    arithmetic; ``torch.export.load``, which unpickles and evaluates, is not asked.

    Raises:
        StructureError: It is none, or holds pickled objects, code or operators of others.
    """
    return _opened(Path(file), lambda program: from_program(program).eval())


def refill_program(file: Path, weights: Mapping[str, Tensor], into: Path) -> None:
    """Write an exported program again, with other weights.

    Args:
        file: The program.
        weights: By the names of its parameters and buffers; others may be among them.
        into: Is overwritten.

    Raises:
        StructureError: The file is no program, or holds pickled objects.
    """

    def refill(program: ExportedProgram) -> None:
        with torch.no_grad():
            for name, tensor in program.state_dict.items():
                tensor.copy_(weights[name])
        program.example_inputs = None
        torch.export.save(program, into)

    _opened(file, refill)


def _opened(file: Path, use: Callable[[ExportedProgram], T]) -> T:
    def opened() -> T:
        from torch._export.serde.serialize import ExportedProgramDeserializer

        with opened_archive(file) as archive:
            text = _text(archive)
            weights, constants = archive.tensors("weights"), archive.tensors("constants")
        with quietly():
            return use(ExportedProgramDeserializer().deserialize(text, weights, constants))

    return _told(file, opened)


def _text(archive: Archive) -> Any:
    """The text of a program, checked, as PyTorch's reader takes it."""
    from autoprune.structure.saved.program_text import program_of

    return program_of(archive.text("models/model.json"))


def _check(file: Path) -> None:
    with opened_archive(file) as archive:
        _text(archive)


def _told(file: Path, read: Callable[[], T]) -> T:
    """What reading gives.

    Raises:
        StructureError: In place of whatever Python and PyTorch raise of a malformed file, in one line.
    """
    try:
        return read()
    except StructureError:
        raise
    except Exception as error:  # of many kinds; each means the same to the user
        cause = " ".join(str(error).split())[:300] or type(error).__name__
        raise StructureError(f"{file} cannot be opened as an exported program: {cause}") from error
