"""Outputs and targets that fit each task, some of which do not count where a task knows such."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

HEADS = {
    "kind": {"use": "classification"},
    "marks": {"use": "multilabel"},
    "size": {"use": "regression", "output": "1"},
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def classes(*shape: int, count: int, ignored: int | None = -100, seed: int = 1) -> Tensor:
    """Classes, of which about a third, and all of the last sample, do not count."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(count, shape, generator=generator)
    if ignored is None:
        return drawn
    without = torch.rand(shape, generator=generator) < 0.3
    without[-1] = True
    without[:-1].flatten(1)[:, 1] = False  # something of all others does
    return drawn.masked_fill(without, ignored)


def fitting(task: str) -> tuple[Any, Any]:
    """Outputs and targets of 8 samples."""
    if task == "classification":
        return noise(8, 4), classes(8, count=4, ignored=None)
    if task == "regression":
        return noise(8, 3), noise(8, 3, seed=1)
    if task == "multilabel":
        return noise(8, 5), classes(8, 5, count=2)
    if task == "segmentation":
        return noise(8, 4, 5, 3), classes(8, 5, 3, count=4)
    if task == "embedding":
        return noise(8, 6), noise(8, 6, seed=1)
    if task == "multi-head":
        heads = {name: fitting(head["use"]) for name, head in HEADS.items()}
        return {name: each[0] for name, each in heads.items()}, {name: each[1] for name, each in heads.items()}
    return noise(8, 6, 7), classes(8, 6, count=7)  # language models
