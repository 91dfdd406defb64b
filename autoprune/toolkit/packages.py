"""Packages that only some need, and that come with an extra."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

from autoprune.errors import DataError

_USES_TORCHVISION = ("torchvision", "timm", "transformers")
_COMPILED = ("nms", "qnms")
"""Operators that torchvision registers something for, while it is imported."""


def optional(name: str) -> ModuleType:
    """A package by its name, which is that of the extra, too; ``transformers`` comes with ``huggingface``.

    Raises:
        DataError: It is not installed, or does not import; says what to run.
    """
    extra = {"transformers": "huggingface", "datasets": "huggingface"}.get(name, name)
    if importlib.util.find_spec(name) is None:
        raise DataError(f"needs the package {name}: pip install 'autoprune[{extra}]'")
    try:
        if name in _USES_TORCHVISION:
            _import_torchvision()
        return importlib.import_module(name)
    except Exception as error:  # whatever a package raises that was built for others than are installed
        cause = " ".join(str(error).split())[:300]
        raise DataError(
            f"the package {name} is installed and cannot be imported: {type(error).__name__}: {cause}; "
            f"pip install --upgrade 'autoprune[{extra}]'"
        ) from error


def _import_torchvision() -> None:
    """Also beside a PyTorch of another build (a CPU's beside one for CUDA), where its compiled operators are missing.

    It is not to be imported then, nor is what uses it; models and transforms, though, need none of these operators.
    """
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        import torch

        for module in [module for module in sys.modules if module.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        for operator in _COMPILED:
            torch.library.define(
                f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        importlib.import_module("torchvision")
