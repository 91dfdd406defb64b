"""Opens saved models, for `tests.fresh.returned`; tensors come and go as lists."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

import autoprune


def model(folder: Path, inputs: list[Any], options: dict[str, Any]) -> list[Any]:
    """What a saved model says, opened with these options."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        said: list[Any] = autoprune.load_pruned(folder, **options)(torch.tensor(inputs)).tolist()
    return said


def program(path: Path, inputs: list[Any]) -> list[Any]:
    """What a saved program says."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        said: list[Any] = autoprune.load_program(path)(torch.tensor(inputs)).tolist()
    return said
