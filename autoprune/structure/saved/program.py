"""Exported programs as files: models that need no code of anyone's to open. Nothing in them is unpickled."""

from __future__ import annotations

import inspect
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, ShapesCollection

from autoprune.errors import StructureError
from autoprune.plugin import Inputs
from autoprune.structure.graph.outputs import counting
from autoprune.structure.graph.trace import evaluating
from autoprune.structure.graph.untraceable import quietly, untraceable
from autoprune.structure.surgery.graph_network import GraphNetwork, from_program

T = TypeVar("T")


def save_program(
    network: nn.Module, inputs: Inputs | Tensor | Sequence[Tensor] | Mapping[str, Tensor], file: str | Path
) -> None:
    """Export a network in ``eval()`` to a ``.pt2`` file that `load_program` opens, for any batch size.

    What the program returns are tensors in plain dicts, tuples and lists.

    Args:
        network: Left as it was.
        inputs: Example inputs, positional or by keyword, each of shape (N, …), N ≥ 2.
        file: Is overwritten.

    Raises:
        StructureError: ``torch.export`` cannot trace it, or not for any batch size: its code takes a keyword that its
            signature does not name.
    """
    given, sizes = Inputs.of(inputs), ShapesCollection()  # type: ignore[no-untyped-call]
    for tensor in given.tensors:
        sizes[tensor] = {0: Dim.AUTO}
    args, kwargs = given.args, dict(given.kwargs)
    named = inspect.signature(network.forward).parameters
    if unnamed := [name for name in kwargs if name not in named]:
        raise StructureError(
            f"{type(network).__name__} takes {unnamed[0]} by **: torch.export cannot trace that for any batch size; "
            "name it in the signature of forward()"
        )
    with evaluating(network), torch.no_grad(), quietly(), counting(network):
        try:
            shapes: Any = sizes.dynamic_shapes(network, args, kwargs)  # type: ignore[no-untyped-call]
            program = torch.export.export(network, args, kwargs, dynamic_shapes=shapes, strict=False)
        except Exception as error:
            raise untraceable(network, error) from error
        program.example_inputs = None  # they would be pickled
        torch.export.save(program, file)


def load_program(file: str | Path) -> GraphNetwork:
    """Open an exported program, in ``eval()``.

    Raises:
        StructureError: It is none, or holds pickled objects.
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
    try:
        with zipfile.ZipFile(file) as archive:
            _refuse_pickles(archive, file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own
            return use(torch.export.load(file))
    except (OSError, zipfile.BadZipFile, RuntimeError, ValueError, KeyError) as error:
        raise StructureError(f"{file} cannot be opened as an exported program: {error}") from error


def _refuse_pickles(archive: zipfile.ZipFile, file: Path) -> None:
    """PyTorch unpickles sample inputs, and tensors that are marked so."""
    for entry in archive.infolist():
        config = json.loads(archive.read(entry)) if entry.filename.endswith("_config.json") else {}
        marked = any(payload.get("use_pickle") for payload in (config.get("config") or {}).values())
        if marked or ("/sample_inputs/" in entry.filename and entry.file_size):
            raise StructureError(
                f"{file} holds pickled objects ({entry.filename}); write it by autoprune.save_program, "
                "or by torch.export.save after `program.example_inputs = None`"
            )
