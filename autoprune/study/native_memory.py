"""What native code keeps of networks that are gone: compiled kernels of their shapes, and freed memory."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import conv2d

_CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
_DEFAULT = 1024
_LEAST = 64
_PER_WEIGHT = 16
_MOST = 1.25
"""What a process may hold after a trial, as a multiple of what it took or kept before."""


def bound_kernel_cache(network: nn.Module) -> None:
    """Have oneDNN keep the kernels of a few networks like this one, not of the latest 1024 shapes.

    On the CPU a convolution's kernel is compiled for its shape and kept for the next call. Every candidate has shapes
    of its own, so a search would go on growing by the kernels of candidates that nobody needs any more. Two networks
    are in use at a time, the dense one and a candidate (latency is measured in turn), and a weight takes some kernels
    for each size of batch: reordering input and weight, the layer itself, and its gradients in an attack.

    oneDNN reads its variable when it makes its first kernel, which is here: worker processes do not inherit it, for
    theirs may be another network. A process that has run a convolution before keeps what it has, and so does one whose
    user set the variable.

    Args:
        network: The dense network.
    """
    if _CAPACITY in os.environ:
        return
    weights = sum(1 for parameter in network.parameters() if parameter.dim() > 1)
    os.environ[_CAPACITY] = str(min(max(_LEAST, _PER_WEIGHT * weights), _DEFAULT))
    try:
        images = torch.zeros(8, 8, 8, 8, device="cpu", dtype=torch.float32)
        conv2d(images, weight=images)
    finally:
        del os.environ[_CAPACITY]


class FreedMemory:
    """Gives what is free back to the system, where a process holds much more than it uses (glibc).

    Candidates differ in size, so they leave holes that the next one does not fit into, and a process would come to hold
    twice what it uses. Memory that went back costs time when it is asked for again, so it goes only if it must: above
    the peak of the first trial, and above what was left when it last went, for what a study keeps may grow (images that
    are decoded as they are asked for).
    """

    def __init__(self) -> None:
        self._bound = 0.0

    def give_back(self) -> None:
        """To be called after every trial."""
        if not self._bound:
            self._bound = _MOST * held("VmHWM")
        elif held("VmRSS") > self._bound:
            with suppress(AttributeError):  # another C library
                ctypes.CDLL(None).malloc_trim(0)
            self._bound = max(self._bound, _MOST * held("VmRSS"))


def held(kind: str) -> int:
    """Bytes that this process holds, on Linux: ``VmRSS`` now, ``VmHWM`` at most so far; 0 where that is not told.

    Not ``ru_maxrss``: that starts out with the peak of the process that began this one.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{kind}:"):
                return 1024 * int(line.split()[1])
    return 0
