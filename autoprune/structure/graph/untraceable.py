"""What to say where ``torch.export`` cannot trace a model: one line, instead of its thousands."""

from __future__ import annotations

import contextlib
import io
import linecache
import logging
import re
import sysconfig
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import fx, nn

from autoprune.errors import StructureError

_NOT_THE_MODELS = (Path(torch.__file__).parent, Path(__file__).parents[2])
_STDLIB = Path(sysconfig.get_path("stdlib"))
_INSTALLED = Path(sysconfig.get_path("purelib"))
_LONGEST = 300
_BY_VALUES = (
    "goes other ways by the values of tensors, and a trace is of one way: compute both and choose by torch.where"
)
_OF_SIZES = (
    "makes tensors whose sizes depend on values, and a cut has to know all sizes: mask entries instead of picking"
)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep to itself what torch prints besides the error that it raises, and warns of on the way."""
    log = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")  # about attributes that recurrent layers set while they run
            yield
    finally:
        log.setLevel(level)


def untraceable(network: nn.Module, error: Exception) -> StructureError:
    """What went wrong, where in the model's own code, and what helps.

    Args:
        network: Which model.
        error: What ``torch.export`` raised: one of dozens of types, some of them private.
    """
    cause = (str(error).strip().splitlines() or [""])[0]
    frames = [frame for raised in _chain(error) for frame in traceback.extract_tb(raised.__traceback__)]
    place = next(((f.filename, f.lineno or 0) for f in reversed(frames) if _of_the_model(f.filename)), None)
    if "data-dependent" in cause or type(error).__name__.startswith("GuardOnDataDependent"):
        what = f"its code {_told(place)}{_BY_VALUES}"
    else:
        where = f" ({place[0]}:{place[1]})" if place else ""
        what = (
            f"{type(error).__name__}: {cause[:_LONGEST]}{where}; what it can trace is a forward() of tensor operations "
            "alone: leave the rest to a module around it"
        )
    return StructureError(f"torch.export cannot trace {type(network).__name__}: {what}")


def check_sizes(network: nn.Module, graph: fx.GraphModule) -> None:
    """Refuse a graph whose sizes depend on values.

    Raises:
        StructureError: They do; says where.
    """
    for node in graph.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.SymInt) or not all(isinstance(size, int) for size in getattr(value, "shape", ())):
            found = re.findall(r'File "(.+?)", line (\d+)', node.meta.get("stack_trace") or "")
            place = next(((file, int(line)) for file, line in reversed(found) if _of_the_model(file)), None)
            raise StructureError(f"{type(network).__name__} cannot be cut: its code {_told(place)}{_OF_SIZES}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """What it was raised from, and it."""
    if error.__cause__ is not None:
        yield from _chain(error.__cause__)
    yield error


def _of_the_model(filename: str) -> bool:
    path = Path(filename)
    if any(path.is_relative_to(folder) for folder in _NOT_THE_MODELS) or filename.startswith("<"):
        return False
    return path.is_relative_to(_INSTALLED) or not path.is_relative_to(_STDLIB)


def _told(place: tuple[str, int] | None) -> str:
    if place is None:
        return ""
    text = linecache.getline(*place).strip()
    return f"at {place[0]}:{place[1]} ({text[:80]}) " if text else f"at {place[0]}:{place[1]} "
