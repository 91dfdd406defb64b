"""Three distinct splits from whatever a source found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autoprune import DataError
from autoprune.plugin import Batch, Split, SplitName

SPLIT_NAMES: dict[SplitName, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "valid", "val"),
    "test": ("test",),
}
"""How files and folders call the splits, the usual name first."""


@dataclass(frozen=True)
class Samples:
    """What a source found under one name, in the order of the files."""

    targets: Tensor
    """Class of each sample, int64 of shape (N,)."""
    inputs: Callable[[Tensor], Tensor]
    """Indices, int64 of shape (B,), to inputs (B, …); ``uint8`` stands for [0, 1]."""


@dataclass(frozen=True)
class _Picked:
    """The ``fetch`` of a split: some of the samples, in an order of their own."""

    samples: Samples
    order: Tensor

    def __call__(self, index: Tensor) -> Batch:
        picked = self.order[index]
        inputs = self.samples.inputs(picked)
        return (inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs,), self.samples.targets[picked]


def three_splits(found: Mapping[SplitName, Samples], *, validation: float, test: float) -> dict[SplitName, Split]:
    """Splits that share no sample; what was not found is carved from the training split.

    The carving does not depend on the search's seed: two searches see the same splits. Every split is in stratified
    order, because the search uses the first so many samples of a split and files are often sorted by class.

    Args:
        found: The training split, and the others where the source has them.
        validation: Fraction (below 1) or number of training samples for a missing validation split.
        test: The same for a missing test split.

    Raises:
        DataError: There are too few samples.
    """
    orders = {name: stratified_order(samples.targets) for name, samples in found.items()}
    splits: dict[SplitName, Split] = {}
    rest = orders["train"]
    missing: dict[SplitName, float] = {"test": test, "validation": validation}
    for name, amount in missing.items():
        if name in found:
            splits[name] = Split(len(orders[name]), _Picked(found[name], orders[name]))
            continue
        count = round(amount * len(orders["train"])) if amount < 1 else int(amount)
        if not 0 < count < len(rest):
            raise DataError(f"{name}: {amount:g} of {len(orders['train'])} training samples would leave a split empty")
        splits[name] = Split(count, _Picked(found["train"], rest[:count]))
        rest = rest[count:]
    splits["train"] = Split(len(rest), _Picked(found["train"], rest))
    empty = [name for name, split in splits.items() if len(split) == 0]
    if empty:
        raise DataError(f"the {empty[0]} split has no sample")
    return splits


def stratified_order(targets: Tensor) -> Tensor:
    """A fixed random order, (N,), every stretch of which holds the classes in nearly their overall proportions."""
    # RandomState, because its streams are frozen: the splits stay what they are under any numpy.
    random = np.random.RandomState(0)
    place = np.empty(len(targets))
    labels = targets.numpy()
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        # Members of a class stand at even distances, from a random start, and in random order.
        place[members] = (random.permutation(len(members)) + random.random_sample()) / len(members)
    return torch.from_numpy(np.argsort(place, kind="stable"))


def number_of_classes(found: Mapping[SplitName, Samples]) -> int:
    """One more than the largest class in any split."""
    return 1 + max(int(samples.targets.max()) for samples in found.values() if len(samples.targets))


def as_targets(labels: object, *, where: str) -> Tensor:
    """Labels as int64 of shape (N,).

    Raises:
        DataError: They are no classes 0, 1, 2, ….
    """
    array = np.asarray(labels)
    if array.ndim > 1 and array.size == len(array):
        array = array.reshape(len(array))
    if array.ndim != 1:
        raise DataError(f"{where}: one class per sample is needed; its shape is {array.shape}")
    if array.dtype.kind not in "iu":
        raise DataError(f"{where}: classes must be integers from 0; these are {array.dtype}")
    if len(array) and array.min() < 0:
        raise DataError(f"{where}: class {array.min()} at sample {int(array.argmin())}; classes count from 0")
    return torch.from_numpy(array.astype(np.int64))
