"""Whether forward passes may run in bfloat16: where the hardware computes in it, and the dense model predicts the same.

No clock decides, so that a seed gives the same study again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from autoprune.plugin import Task
from autoprune.study.proposal import Precision
from autoprune.toolkit.samples import divergences, mean

SAMPLES = 128
"""Validation samples that are compared."""
TOLERANCE = 1e-3
"""Mean divergence from the outputs in float32, as the task measures it, that still counts as the same. In nats, classes
then differ by less than 2.3 % in probability (Pinsker's inequality), most of them by far less."""
WORTH_IT = 5_000_000
"""Multiply-accumulates for a sample below which making another version of a network costs more than it saves."""


def fitting(
    predict: Callable[[Precision], Any], targets: Any, *, task: Task, device: torch.device, macs: int
) -> Precision:
    """``bfloat16`` where it is computed natively, pays and predicts the same within `TOLERANCE`; else ``float32``.

    Args:
        predict: Outputs of the dense model, in that precision.
        targets: Of the same samples.
        task: Says how far they are apart.
        device: Where.
        macs: Of the dense model, for one sample.
    """
    if macs < WORTH_IT or not _native(device):
        return "float32"
    try:
        full, low = predict("float32"), predict("bfloat16")
    except (RuntimeError, NotImplementedError):  # an operator that has no such version
        return "float32"
    divergence = float(mean(task, divergences(task, low, full, targets).double(), full, targets))
    return "bfloat16" if divergence <= TOLERANCE else "float32"  # not a number is not the same


def _native(device: torch.device) -> bool:
    """Whether the hardware multiplies in bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    built_in = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(built_in and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def dtype(precision: Precision) -> torch.dtype:
    """As torch calls it."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32
