"""Arrays of an npz file."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from autoprune import DataError
from autoprune.plugin import Inputs, SplitName
from autoprune.plugin.task import shapes
from autoprune.toolkit.files import listed, plain_file
from autoprune.toolkit.splits import SPLIT_NAMES
from autoprune_sources._arrays import as_input, as_target
from autoprune_sources._budget import check_unpacked

Names = str | Sequence[str] | Mapping[str, str]
"""One array, several in order, or several by what they are called outside the file."""


def read_arrays(file: Path, *, inputs: Names, targets: Names | None) -> dict[SplitName, tuple[Inputs, Any]]:
    """Inputs and targets of each split that has arrays, N samples of each; ``train`` is always there.

    Args:
        file: The .npz file.
        inputs: Names of the arrays that the model takes, without the split; images stay uint8.
        targets: Names of what is right, without the split; several are by name.

    Raises:
        DataError: The file is malformed, or its arrays are not what is needed.
    """
    try:
        with plain_file(file).open("rb") as opened:
            if opened.read(6) == b"\x93NUMPY":
                raise DataError(f"{file}: holds a single array; save inputs and targets with numpy.savez")
            with zipfile.ZipFile(opened) as archive:
                check_unpacked(file, sum(entry.file_size for entry in archive.infolist()))
            arrays = np.load(opened, allow_pickle=False)
            found = {split: _Split(arrays, file, split).read(inputs, targets) for split in SPLIT_NAMES}
    except DataError:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds; each means the same to the user
        raise DataError(f"{file}: cannot be read as .npz: {' '.join(str(error).split()):.300}") from error
    splits = {split: each for split, each in found.items() if each is not None}
    if "train" not in splits:
        first = _listed(inputs)[0]
        raise DataError(
            f"{file}: no array '{first}_train' or {first!r}; there: {listed(arrays.files)}; the option `inputs` names"
            " them"
        )
    for place, what in enumerate(("inputs", "targets")):
        kinds = _kinds({split: each[place] for split, each in splits.items()})
        if len(set(kinds.values())) > 1:
            raise DataError(f"{file}: {what} differ from split to split: {kinds}")
    return splits


class _Split:
    """The arrays of one split."""

    def __init__(self, arrays: Any, file: Path, split: SplitName) -> None:
        self._arrays = arrays
        self._file = file
        self._split = split

    def read(self, inputs: Names, targets: Names | None) -> tuple[Inputs, Any] | None:
        """Inputs and targets; None if none of its inputs is there."""
        first = next(filter(None, map(self._name, _listed(inputs))), None)
        if first is None:
            return None
        given = {base: self._tensor(base, as_input, "inputs", first) for base in _listed(inputs)}
        right = {base: self._tensor(base, as_target, "targets", first) for base in _listed(targets)}
        counts = {base: len(tensor) for base, tensor in {**right, **given}.items()}
        if len(set(counts.values())) > 1:
            raise DataError(f"{self._file}: {self._split} has not as many samples in each array: {counts}")
        if not all(counts.values()):
            raise DataError(f"{self._file}: {first} is empty")
        return Inputs.of(_arranged(inputs, given, tuple(given.values()))), _arranged(targets, right, right)

    def _name(self, base: str) -> str | None:
        names = self._arrays.files
        for alias in SPLIT_NAMES[self._split]:
            for name in (f"{base}_{alias}", f"{alias}_{base}"):
                if name in names:
                    return name
        return base if self._split == "train" and base in names else None

    def _tensor(self, base: str, of: Callable[..., Tensor], option: str, first: str) -> Tensor:
        name = self._name(base)
        if name is None:
            none = ", or write targets: null where there are none" if option == "targets" else ""
            raise DataError(
                f"{self._file}: no array '{base}_{self._split}' of {option} beside {first!r}; there:"
                f" {listed(self._arrays.files)}; the option `{option}` names them{none}"
            )
        try:
            array = self._arrays[name]
        except Exception as error:  # as above
            cause = " ".join(str(error).split())
            raise DataError(f"{self._file}: array {name!r:.200} cannot be read: {cause:.300}") from error
        if not isinstance(array, np.ndarray):
            raise DataError(f"{self._file}: {name!r:.200} is no array")
        return of(array, where=f"{self._file}: {name}")


def _listed(names: Names | None) -> list[str]:
    if names is None or isinstance(names, str):
        return [] if names is None else [names]
    return list(names.values() if isinstance(names, Mapping) else names)


def _arranged(names: Names | None, tensors: Mapping[str, Tensor], several: Any) -> Any:
    """One tensor, those of a list as told, or by the names of a mapping."""
    if isinstance(names, str):
        return tensors[names]
    return {called: tensors[base] for called, base in names.items()} if isinstance(names, Mapping) else several


def _kinds(parts: Mapping[SplitName, Any]) -> dict[str, str]:
    """Shape of a sample, and type, of the arrays of each split."""
    kinds: dict[str, str] = {}
    for split, part in parts.items():
        several = part.tensors if isinstance(part, Inputs) else part.values() if isinstance(part, Mapping) else [part]
        kinds[split] = ", ".join(shapes(tensor[0]) for tensor in several)
    return kinds
