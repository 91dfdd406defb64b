"""Three distinct splits from whatever a source found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True)
class Samples:
    """What a source found under one name, in the order of the files."""

    targets: Targets
    """What is right: a tensor of shape (N, …), or several by name. Classes are int64 of shape (N,)."""
    inputs: Callable[[Tensor], Any]
    """Indices, int64 of shape (B,), to inputs, whatever `Inputs.of` takes, (B, …) each; ``uint8`` stands for [0, 1]."""

    def __len__(self) -> int:
        return len(next(iter(self.targets.values())) if isinstance(self.targets, Mapping) else self.targets)

    @property
    def classes(self) -> Tensor | None:
        """The class of each sample, int64 of shape (N,); None where targets are something else."""
        import torch

        if isinstance(self.targets, Mapping) or self.targets.dtype != torch.int64 or self.targets.dim() != 1:
            return None
        return self.targets


@dataclass(frozen=True)
class _Picked:
    """What reads a split: some of the samples, in an order of their own."""

    samples: Samples
    order: Tensor

    def __call__(self, index: Tensor) -> Batch:
        import torch

        picked = self.order[index]
        inputs = Inputs.of(self.samples.inputs(picked)).map(lambda t: t.float() / 255 if t.dtype == torch.uint8 else t)
        return inputs, mapped(lambda tensor: tensor[picked], self.samples.targets)


def three_splits(found: Mapping[SplitName, Samples], *, validation: float, test: float) -> dict[SplitName, Split]:
    """Splits that share no sample; what was not found is carved from the training split.

    The carving does not depend on the search's seed: two searches see the same splits. Every split of classes is in
    stratified order, because the search uses the first so many samples of a split and files are often sorted by class;
    others are in random order.

    Args:
        found: The training split, and the others where the source has them.
        validation: Fraction (below 1) or number of training samples for a missing validation split.
        test: The same for a missing test split.

    Raises:
        DataError: There are too few samples.
    """
    orders = {name: _order(samples) for name, samples in found.items()}
    splits: dict[SplitName, Split] = {}
    rest = orders["train"]
    missing: dict[SplitName, float] = {"test": test, "validation": validation}
    for name, amount in missing.items():
        if name in found:
            splits[name] = Split(length=len(orders[name]), read=_Picked(found[name], orders[name]))
            continue
        count = round(amount * len(orders["train"])) if amount < 1 else int(amount)
        if not 0 < count < len(rest):
            raise DataError(f"{name}: {amount:g} of {len(orders['train'])} training samples would leave a split empty")
        splits[name] = Split(length=count, read=_Picked(found["train"], rest[:count]))
        rest = rest[count:]
    splits["train"] = Split(length=len(rest), read=_Picked(found["train"], rest))
    empty = [name for name, split in splits.items() if len(split) == 0]
    if empty:
        raise DataError(f"the {empty[0]} split has no sample")
    return splits


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
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
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
    return torch.from_numpy(array.astype(np.int64))


def _order(samples: Samples) -> Tensor:
    import torch

    classes = samples.classes
    return stratified_order(torch.zeros(len(samples), dtype=torch.int64) if classes is None else classes)
