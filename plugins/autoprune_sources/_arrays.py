"""NumPy arrays of whatever kind as inputs and targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoprune import DataError
from autoprune.toolkit.splits import as_classes

_CHANNELS = (1, 3, 4)


def as_input(array: NDArray[Any], *, where: str) -> Tensor:
    """Images as uint8 of shape (N, C, H, W), other integers as int64, floats as float32, bools as they are.

    Args:
        array: Of shape (N, …). Integers of 8 bits without sign and three dimensions or more are images, with their
            channels first, last or left out.
        where: What to call it in an error.

    Raises:
        DataError: It is no input, or not clear which.
    """
    if array.dtype == np.uint8 and array.ndim:
        return _images(array, where)
    return _numbers(array, where=where, what="input")


def as_target(array: NDArray[Any], *, where: str) -> Tensor:
    """Integers as int64, where one per sample has to be a class; floats as float32, bools as they are.

    Args:
        array: Of shape (N, …).
        where: What to call it in an error.

    Raises:
        DataError: It is no target.
    """
    if array.dtype.kind in "iu" and array.ndim and array.size == len(array):
        return as_classes(array, where=where)
    return _numbers(array, where=where, what="target")


def _images(array: NDArray[Any], where: str) -> Tensor:
    if array.ndim < 3:
        raise DataError(
            f"{where}: uint8 of shape {array.shape} may be pixels or numbers; pixels are (N, H, W), (N, C, H, W) or"
            " floats in [0, 1], and tokens and masks another kind of integers or bool"
        )
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in _CHANNELS and array.shape[3] in _CHANNELS:
        array = array.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(array))


def _numbers(array: NDArray[Any], *, where: str, what: str) -> Tensor:
    if not array.ndim:
        raise DataError(f"{where}: a single number; (N, …) is needed, samples first")
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what is too large for float32 is told below
            numbers = array.astype(np.float32)
        if not np.isfinite(numbers).all():
            raise DataError(f"{where}: holds NaN, infinity or what float32 cannot hold")
        return torch.from_numpy(numbers)
    if array.dtype.kind in "iu":
        if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
            raise DataError(f"{where}: holds {array.max()}, which int64 cannot hold")
        return torch.from_numpy(array.astype(np.int64))
    if array.dtype.kind == "b":
        return torch.from_numpy(np.ascontiguousarray(array))
    raise DataError(f"{where}: {array.dtype} is no kind of {what}; integers, floats and bools are")
