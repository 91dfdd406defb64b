"""Arrays of an npz file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoprune import DataError
from autoprune.plugin import SplitName
from autoprune.toolkit.files import listed
from autoprune.toolkit.splits import SPLIT_NAMES, as_classes

_CHANNELS = (1, 3, 4)


def read_arrays(file: Path, *, inputs: str, targets: str) -> dict[SplitName, tuple[Tensor, Tensor]]:
    """Inputs, (N, …), and classes, (N,), or numbers, (N, …), of each split that has arrays; ``train`` is always there.

    Raises:
        DataError: The file is malformed, or its arrays are not what is needed.
    """
    try:
        # Opened here, because numpy leaves a file open that turns out to be no archive.
        with file.open("rb") as opened:
            arrays = np.load(opened, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise DataError(f"{file}: holds a single array; save inputs and classes with numpy.savez")
            found = {split: _pair(arrays, file, split, inputs, targets) for split in SPLIT_NAMES}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: cannot be read as .npz: {error}") from error
    pairs = {split: pair for split, pair in found.items() if pair is not None}
    if "train" not in pairs:
        raise DataError(f"{file}: no array '{inputs}_train' or {inputs!r}; there: {listed(arrays.files)}")
    shapes = {split: tuple(pair[0].shape[1:]) for split, pair in pairs.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"{file}: the splits' samples differ in shape: {shapes}")
    kinds = {split: f"{tuple(pair[1].shape[1:])} {str(pair[1].dtype)[6:]}" for split, pair in pairs.items()}
    if len(set(kinds.values())) > 1:
        raise DataError(f"{file}: the splits' targets differ: {kinds}")
    return pairs


def _pair(arrays: Any, file: Path, split: SplitName, inputs: str, targets: str) -> tuple[Tensor, Tensor] | None:
    name = _name(arrays.files, inputs, split)
    if name is None:
        return None
    of_targets = _name(arrays.files, targets, split)
    if of_targets is None:
        wanted = name.replace(inputs, targets)
        raise DataError(f"{file}: no array {wanted!r} of targets for {name!r}; there: {listed(arrays.files)}")
    tensor = _as_inputs(_array(arrays, file, name), where=f"{file}: {name}")
    labels = _as_targets(_array(arrays, file, of_targets), where=f"{file}: {of_targets}")
    if len(tensor) != len(labels):
        raise DataError(f"{file}: {name} has {len(tensor)} samples and {of_targets} has {len(labels)}")
    if not len(tensor):
        raise DataError(f"{file}: {name} is empty")
    return tensor, labels


def _name(names: list[str], base: str, split: SplitName) -> str | None:
    for alias in SPLIT_NAMES[split]:
        for name in (f"{base}_{alias}", f"{alias}_{base}"):
            if name in names:
                return name
    return base if split == "train" and base in names else None


def _array(arrays: Any, file: Path, name: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = arrays[name]
    except ValueError as error:
        raise DataError(f"{file}: array {name!r} cannot be read: {error}") from error
    return array


def _as_targets(array: NDArray[Any], *, where: str) -> Tensor:
    """Integers as classes, floats as float32 numbers."""
    if array.dtype.kind != "f" or array.ndim == 0:
        return as_classes(array, where=where)
    if not np.isfinite(array).all():
        raise DataError(f"{where}: holds NaN or infinity")
    return torch.from_numpy(array.astype(np.float32))


def _as_inputs(array: NDArray[Any], *, where: str) -> Tensor:
    if array.ndim < 2:
        raise DataError(f"{where}: shape {array.shape} holds no samples of any width; (N, …) is needed")
    if array.dtype == np.uint8:
        if array.ndim == 3:
            array = array[:, None]
        elif array.ndim == 4 and array.shape[1] not in _CHANNELS and array.shape[3] in _CHANNELS:
            array = array.transpose(0, 3, 1, 2)
        return torch.from_numpy(np.ascontiguousarray(array))
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise DataError(f"{where}: holds NaN or infinity")
        return torch.from_numpy(array.astype(np.float32))
    if array.dtype.kind in "iu":
        return torch.from_numpy(array.astype(np.int64))
    raise DataError(f"{where}: {array.dtype} is no kind of input; uint8, floats and integers are")
