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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

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
_QUANTIZATION = Path(torch.__file__).parent / "ao" / "quantization"
_PACKS = frozenset(("pack_padded_sequence", "pack_sequence"))
_PACKED = (
    "packs sequences, and the sizes of those depend on values: run the layer on the padded batch, and take each last "
    "state by y.gather(1, (lengths - 1).view(-1, 1, 1).expand(-1, 1, y.shape[2])); of a layer that runs backwards, "
    "too, pack only where an attribute of the module says so, and set that after the cut"
)
_FAKE_QUANTIZED = (
    "quantises by ranges that it still observes: prune the model before it is prepared for quantisation, and prepare "
    "the pruned one"
)
_LOGS = {
    "torch.fx.experimental.symbolic_shapes": logging.ERROR,
    "torch._subclasses.fake_tensor": logging.CRITICAL,  # of an operator that fails: its whole stack, line by line
}
"""Who writes to handlers of their own, and the least that they may say."""
_ONE_HOT = "makes as many classes as it sees: say how many by one_hot(…, num_classes=…)"


@contextmanager
def quietly() -> Iterator[None]:
    """Keep to itself what torch prints besides the error that it raises, and warns of on the way."""
    logs = {logging.getLogger(name): most for name, most in _LOGS.items()}
    levels = {log: log.level for log in logs}
    for log, most in logs.items():
        log.setLevel(most)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")  # about attributes that recurrent layers set while they run
            yield
    finally:
        for log, level in levels.items():
            log.setLevel(level)


def untraceable(network: nn.Module, error: Exception) -> StructureError:
    """What went wrong, where in the model's own code, and what helps.

    Args:
        network: Which model.
        error: What ``torch.export`` raised: one of dozens of types, some of them private.
    """
    cause = (str(error).strip().splitlines() or [""])[0]
    steps = [step for raised in _chain(error) for step in traceback.walk_tb(raised.__traceback__)]
    frames = [(frame.f_code.co_filename, line) for frame, line in steps]
    place = next((each for each in reversed(frames) if _of_the_model(each[0])), None)
    by_values = "data-dependent" in cause or type(error).__name__.startswith("GuardOnDataDependent")
    if (known := _known(steps, place)) is not None:
        what = f"its code {told(place)}{known}"
    elif by_values:
        what = f"its code {told(place)}{_BY_VALUES}"
    else:
        where = f" ({place[0]}:{place[1]})" if place else ""
        what = (
            f"{type(error).__name__}: {cause[:_LONGEST]}{where}; what it can trace is a forward() of tensor operations "
            "alone: leave the rest to a module around it"
        )
    return StructureError(f"torch.export cannot trace {type(network).__name__}: {what}")


def _known(steps: Sequence[tuple[FrameType, int]], place: tuple[str, int] | None) -> str | None:
    """What the code at a place does that cannot be traced, and what helps; None where that is not known."""
    code = [frame.f_code for frame, _ in steps]
    if any(Path(each.co_filename).parent == _QUANTIZATION for each in code):
        return _FAKE_QUANTIZED
    packing = next((each for each in reversed(code) if _of_the_model(each.co_filename)), None)
    if packing is not None and _PACKS.intersection(packing.co_names):
        return _PACKED
    return _ONE_HOT if place is not None and "one_hot(" in linecache.getline(*place) else None


def check_sizes(network: nn.Module, graph: fx.GraphModule) -> None:
    """Refuse a graph whose sizes depend on values.

    Raises:
        StructureError: They do; says where.
    """
    for node in graph.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.SymInt) or not all(isinstance(size, int) for size in getattr(value, "shape", ())):
            where = told(place_of(node))
            raise StructureError(f"{type(network).__name__} cannot be cut: its code {where}{_OF_SIZES}")


def place_of(node: fx.Node) -> tuple[str, int] | None:
    """File and line of the model's own code that made a node; None if that is not known."""
    found = re.findall(r'File "(.+?)", line (\d+)', node.meta.get("stack_trace") or "")
    return next(((file, int(line)) for file, line in reversed(found) if _of_the_model(file)), None)


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


def told(place: tuple[str, int] | None) -> str:
    """A place for a sentence: with its code, and a space behind it."""
    if place is None:
        return ""
    text = linecache.getline(*place).strip()
    return f"at {place[0]}:{place[1]} ({text[:80]}) " if text else f"at {place[0]}:{place[1]} "
