"""Every sample of the data, before the first trial: what one of them lacks would else be learnt in the middle."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from autoprune.errors import AutopruneError
from autoprune.plugin import Data, Split, Task
from autoprune.plugin.data import SplitName

_SPLITS: tuple[SplitName, ...] = ("validation", "test", "train")
_SECONDS = 0.2
"""For each split: what is read slowly is looked at as far as that goes, from the first sample on."""
_AT_ONCE = 512


def faulty_sample(task: Task, data: Data, outputs: Any) -> str | None:
    """The first sample that cannot be read, or whose target or input is wrong by its values; None where none is.

    Targets that can be had without the inputs are all looked at; what takes longer than a fifth of a second
    of reading is not.

    Args:
        task: The study's.
        data: The study's, its targets of the kind that the task takes.
        outputs: Of the dense model, of some of the samples.

    Raises:
        AutopruneError: What the data source raises of its own.
    """

    def of_targets(split: Split, index: Tensor) -> str | None:
        return None if split.read_targets is None else task.faulty(split.read_targets(index), outputs)

    def of_all(split: Split, index: Tensor) -> str | None:
        inputs, targets = split.fetch(index)
        if any(bool(tensor.isnan().any()) for tensor in inputs.tensors):
            return "an input is NaN: leave the sample out, or fill it in"
        return None if split.read_targets is not None else task.faulty(targets, outputs)

    for name in _SPLITS:
        split = data.split(name)
        samples = torch.arange(len(split))
        parts: list[Tensor] = samples.split(_AT_ONCE)  # type: ignore[no-untyped-call]
        for index in parts if split.read_targets is not None else ():  # in parts, as masks may be large
            if reason := _first(partial(of_targets, split), index):
                return f"{name} {reason}"
        end = time.monotonic() + _SECONDS
        for index in parts:
            if reason := _first(partial(of_all, split), index):
                return f"{name} {reason}"
            if time.monotonic() > end:
                break
    return None


def _first(fault: Callable[[Tensor], str | None], index: Tensor) -> str | None:
    """The first of those samples at fault, and why."""
    if _told(fault, index) is None:
        return None
    found = ((int(one), _told(fault, one)) for one in index.split(1))  # type: ignore[no-untyped-call]
    return next((f"sample {number}: {reason}" for number, reason in found if reason), None)


def _told(fault: Callable[[Tensor], str | None], index: Tensor) -> str | None:
    try:
        return fault(index)
    except AutopruneError:
        raise
    except Exception as error:  # noqa: BLE001  whatever a data set's code raises
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
