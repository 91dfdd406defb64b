"""Three distinct splits from whatever a source found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from autoprune.errors import DataError
from autoprune.plugin import Inputs, Split, SplitName, Targets
from autoprune.plugin.data import mapped

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Batch

SPLIT_NAMES: dict[SplitName, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "valid", "val"),
    "test": ("test",),
}
"""How files and folders call the splits, the usual name first."""
CarvedFrom = Literal["train", "test"]
"""Splits that a missing validation split may be carved from."""


@dataclass(frozen=True)
class Samples:
    """What a source found under one name, in the order of the files."""

    targets: Targets | Callable[[Tensor], Targets]
    """What is right: a tensor of shape (N, …), or several by name (none of them where nothing is told). Classes are
    int64 of shape (N,). What is better read when it is needed comes by its indices, as inputs do."""
    inputs: Callable[[Tensor], Any]
    """Indices, int64 of shape (B,), to inputs, whatever `Inputs.of` takes, (B, …) each; ``uint8`` stands for [0, 1]."""
    length: int | None = None
    """How many there are; as many as targets if left out."""

    def __len__(self) -> int:
        if self.length is not None:
            return self.length
        if callable(self.targets):
            raise ValueError("samples whose targets are read by index have a length of their own")
        return len(next(iter(self.targets.values())) if isinstance(self.targets, Mapping) else self.targets)

    @property
    def classes(self) -> Tensor | None:
        """The class of each sample, int64 of shape (N,); None where targets are something else."""
        import torch

        known = isinstance(self.targets, torch.Tensor) and self.targets.dtype == torch.int64
        return self.targets if known and self.targets.dim() == 1 else None  # type: ignore[union-attr,return-value]


@dataclass(frozen=True)
class _Picked:
    """What reads a split: some of the samples, in an order of their own."""

    samples: Samples
    order: Tensor

    def __call__(self, index: Tensor) -> Batch:
        import torch

        picked = self.order[index]
        inputs = Inputs.of(self.samples.inputs(picked)).map(lambda t: t.float() / 255 if t.dtype == torch.uint8 else t)
        return inputs, self.targets(index)

    def targets(self, index: Tensor) -> Any:
        """Those alone."""
        picked, targets = self.order[index], self.samples.targets
        return targets(picked) if callable(targets) else mapped(lambda tensor: tensor[picked], targets)


def three_splits(
    found: Mapping[SplitName, Samples], *, validation: float, test: float, validation_from: CarvedFrom = "train"
) -> dict[SplitName, Split]:
    """Splits that share no sample; what was not found is carved from another split.

    The carving does not depend on the search's seed: two searches see the same splits. Every split of classes is in
    stratified order, because the search uses the first so many samples of a split and files are often sorted by class;
    others are in random order.

    Args:
        found: The training split, and the others where the source has them.
        validation: Fraction (below 1) or number of samples for a missing validation split.
        test: The same for a missing test split, which is carved from the training split.
        validation_from: Split that a missing validation split is carved from.

    Raises:
        DataError: There are too few samples, or there is no test split to carve from.
    """
    orders = {name: _order(samples) for name, samples in found.items()}
    parts = carved(orders, validation=validation, test=test, validation_from=validation_from)
    empty = [name for name, (_, order) in parts.items() if len(order) == 0]
    if empty:
        raise DataError(f"the {empty[0]} split has no sample")
    splits: dict[SplitName, Split] = {}
    for name, (origin, order) in parts.items():
        samples = found[origin]
        read = _Picked(samples, order)
        splits[name] = Split(len(order), read, None if callable(samples.targets) else read.targets)
    return splits


def carved(
    orders: Mapping[SplitName, Tensor], *, validation: float, test: float, validation_from: CarvedFrom = "train"
) -> dict[SplitName, tuple[SplitName, Tensor]]:
    """All three splits: of what each is made, and of which samples of that; what is missing is the front of another.

    Args:
        orders: Indices of the samples of each split that there is, int64 of shape (N,).
        validation: Fraction (below 1) or number of samples for a missing validation split.
        test: The same for a missing test split, which is carved from the training split.
        validation_from: Split that a missing validation split is carved from.

    Raises:
        DataError: There are too few samples, or there is no test split to carve from.
    """
    parts: dict[SplitName, tuple[SplitName, Tensor]] = {name: (name, order) for name, order in orders.items()}
    amounts: dict[SplitName, tuple[CarvedFrom, float]] = {
        "test": ("train", test),
        "validation": (validation_from, validation),
    }
    for name, (origin, amount) in amounts.items():
        if name in orders:
            continue
        if origin not in orders:
            raise DataError(f"validation_from: there is no {origin} split that {name} could be carved from")
        _, rest = parts[origin]
        count = round(amount * len(orders[origin])) if amount < 1 else int(amount)
        if not 0 < count < len(rest):
            told = "training" if origin == "train" else origin
            raise DataError(f"{name}: {amount:g} of {len(orders[origin])} {told} samples would leave a split empty")
        parts[name], parts[origin] = (origin, rest[:count]), (origin, rest[count:])
    return parts


def stratified_order(classes: Tensor) -> Tensor:
    """A fixed random order, every stretch of which holds the classes in nearly their overall proportions.

    Args:
        classes: Of each sample, int64 of shape (N,); of one class alone, the order is simply random.

    Returns:
        Indices of the samples, int64 of shape (N,).
    """
    import numpy as np
    import torch

    # RandomState, because its streams are frozen: the splits stay what they are under any numpy.
    random = np.random.RandomState(0)
    place = np.empty(len(classes))
    labels = classes.numpy()
    together = np.argsort(labels, kind="stable")
    begins = np.flatnonzero(np.diff(labels[together])) + 1
    for members in np.split(together, begins) if len(together) else ():
        # Members of a class stand at even distances, from a random start, and in random order.
        place[members] = (random.permutation(len(members)) + random.random_sample()) / len(members)
    return torch.from_numpy(np.argsort(place, kind="stable"))


def number_of_classes(found: Mapping[SplitName, Samples]) -> int | None:
    """One more than the largest class in any split; None where targets are no classes."""
    classes = [samples.classes for samples in found.values() if len(samples)]
    known = [int(each.max()) for each in classes if each is not None]
    return 1 + max(known) if known and len(known) == len(classes) else None


def as_classes(labels: object, *, where: str) -> Tensor:
    """Labels as int64 of shape (N,).

    Args:
        labels: Whatever numpy makes an array of, (N,) or (N, 1).
        where: What to call them in an error: the file, and the column or array.

    Raises:
        DataError: They are no classes 0, 1, 2, ….
    """
    import numpy as np
    import torch

    array = np.asarray(labels)
    if array.ndim > 1 and array.size == len(array):
        array = array.reshape(len(array))
    if array.ndim != 1:
        raise DataError(f"{where}: one class per sample is needed; its shape is {array.shape}")
    if array.dtype.kind not in "iu":
        raise DataError(f"{where}: classes must be integers from 0; these are {array.dtype}")
    if len(array) and array.min() < 0:
        raise DataError(f"{where}: class {array.min()} at sample {int(array.argmin())}; classes count from 0")
    if len(array) and array.max() > np.iinfo(np.int64).max:
        raise DataError(f"{where}: class {array.max()} at sample {int(array.argmax())}, which int64 cannot hold")
    return torch.from_numpy(array.astype(np.int64))


def random_order(count: int) -> Tensor:
    """A fixed random order of so many samples, int64 of shape (N,)."""
    import torch

    return stratified_order(torch.zeros(count, dtype=torch.int64))


def _order(samples: Samples) -> Tensor:
    classes = samples.classes
    return random_order(len(samples)) if classes is None else stratified_order(classes)
