"""Convolutions of many shapes, in processes of their own: what is kept is bounded when the first kernel is made."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from autoprune.study.native_memory import bound_kernel_cache, held


def print_kernels(layers: int, out: Path) -> None:
    """Have oneDNN tell a file about a hundred shapes for a network of so many layers, and the first one ``again``."""
    with out.open("w") as file:
        os.dup2(file.fileno(), 1)
    os.environ.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY", None)
    os.environ["ONEDNN_VERBOSE"] = "profile"
    bound_kernel_cache(nn.Sequential(*[nn.Conv2d(4, 4, 3) for _ in range(layers)]))
    assert "ONEDNN_PRIMITIVE_CACHE_CAPACITY" not in os.environ

    def run(size: int) -> None:
        torch.nn.functional.conv2d(torch.zeros(8, 16, size, size), torch.zeros(16, 16, 3, 3))

    with torch.inference_mode():
        run(8)
        for size in range(9, 109):
            run(size)
        os.write(1, b"again\n")
        run(8)


def growth(capacity: str | None = None) -> int:
    """By how many bytes a process grows over 600 shapes, where PyTorch keeps so many (None: as `autoprune` has it)."""
    if capacity is not None:
        os.environ["LRU_CACHE_CAPACITY"] = capacity

    def run(inputs: int, outputs: int) -> None:
        nn.Conv2d(inputs, outputs, 3, padding=1)(torch.zeros(4, inputs, 8, 8))

    with torch.inference_mode():
        bound_kernel_cache(nn.Conv2d(4, 4, 3))
        for n in range(100):
            run(1, 1 + n)
        before = held("VmRSS")
        for n in range(600):
            run(1 + n % 53, 1 + 7 * n % 61)
        return held("VmRSS") - before
