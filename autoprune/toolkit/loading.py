"""Whatever people keep their samples in, as splits: tensors, datasets, loaders, iterables of batches."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoprune.errors import DataError
from autoprune.plugin.data import Inputs, Split, SplitName
from autoprune.plugin.task import shapes
from autoprune.toolkit.files import listed
from autoprune.toolkit.splits import SPLIT_NAMES

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin.data import Batch

TARGETS = ("labels", "label", "targets", "target", "y")
"""What targets are called in a batch by name, unless told."""


@dataclass(frozen=True)
class Columns:
    """Which parts of a batch by name are inputs, and which are targets."""

    inputs: tuple[str, ...] = ()
    """All that are no targets if empty."""
    targets: tuple[str, ...] = ()
    """The one of `TARGETS` that is there if empty; of several, targets are by name."""


def three_loaded(
    found: Mapping[str, Any],
    *,
    columns: Columns = Columns(),
    validation: float = 0.1,
    test: float = 0.1,
) -> dict[SplitName, Split]:
    """Splits of whatever samples are kept in; what was not found is carved from the training split, at random.

    Args:
        found: ``train``, and ``validation`` (``valid``, ``val``) and ``test`` where there are such, each one of those
            that `loaded` takes.
        columns: Of batches by name.
        validation: Fraction (below 1) or number of training samples for a missing validation split.
        test: The same for a missing test split.

    Raises:
        DataError: There is no training split, a name is unknown, or a split cannot be read; it says what came.
    """
    import torch

    named = {alias: name for name, aliases in SPLIT_NAMES.items() for alias in aliases}
    if unknown := [name for name in found if name not in named]:
        raise DataError(f"data has {unknown[0]!r}; splits are called {', '.join(SPLIT_NAMES)}")
    splits = {named[name]: loaded(source, columns=columns, where=name) for name, source in found.items()}
    if "train" not in splits:
        raise DataError("data has no 'train': scorers and training need it")
    train = splits["train"]
    rest = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    missing: dict[SplitName, float] = {"test": test, "validation": validation}
    for name, amount in missing.items():
        if name in splits:
            continue
        count = round(amount * len(train)) if amount < 1 else int(amount)
        if not 0 < count < len(rest):
            raise DataError(f"{name}: {amount:g} of {len(train)} training samples would leave a split empty")
        splits[name], rest = _part(train, rest[:count]), rest[count:]
    if len(rest) < len(train):
        splits["train"] = _part(train, rest)
    return splits


def loaded(source: Any, *, columns: Columns = Columns(), where: str = "data") -> Split:
    """A split of whatever samples are kept in.

    Batches, and the samples of datasets, are tuples (inputs…, targets), mappings by name (a ``BatchEncoding`` is one),
    or inputs alone, where no targets are needed. Of a loader its dataset and its ``collate_fn`` are used, so that
    samples can be fetched by number; what has no length or no places, such as a generator, is read whole into memory.
    ``uint8`` stands for images in [0, 1]; other numbers become int64 or float32.

    Args:
        source: A `Split`, a `torch.utils.data.Dataset` or anything else with a length and items, a `DataLoader`, an
            iterable of batches, or a tuple or a mapping of tensors or arrays, samples first.
        columns: Of batches by name.
        where: What to call it in an error.

    Raises:
        DataError: It is none of these, is empty, or its samples are no tensors or numbers; says what came.
    """
    import numpy as np
    import torch
    from torch.utils.data import DataLoader, IterableDataset

    if isinstance(source, Split):
        return source
    if isinstance(source, torch.Tensor | np.ndarray) or (
        isinstance(source, tuple | Mapping) and all(map(_is_array, _parts(source)))
    ):
        inputs, targets = _batch(source, columns, where)
        return Split.of_tensors(inputs, targets)
    collate: Callable[[Any], Any] = _collated
    if isinstance(source, DataLoader) and not isinstance(source.dataset, IterableDataset):
        # A loader that does not batch hands out what its collate_fn makes of one sample.
        collate = source.collate_fn if source.batch_size is not None or source.batch_sampler is not None else collate
        source = source.dataset
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return _of_items(source, collate, columns, where)
    if isinstance(source, Iterable):
        return _read_whole(source, columns, where)
    raise DataError(
        f"{where} is a {type(source).__name__}; it takes a torch Dataset, a DataLoader, an iterable of batches, or"
        " a tuple of tensors: see docs/prune-your-own-model.md"
    )


def _of_items(items: Any, collate: Callable[[Any], Any], columns: Columns, where: str) -> Split:
    if not len(items):
        raise DataError(f"{where} has no sample")

    def read(index: Tensor) -> Batch:
        return _batch(collate([items[i] for i in index.tolist()]), columns, where)

    import torch

    read(torch.zeros(1, dtype=torch.int64))  # what is wrong with samples is told now
    return Split(len(items), read)


def _read_whole(batches: Iterable[Any], columns: Columns, where: str) -> Split:
    import torch

    read = [_batch(batch, columns, where) for batch in batches]
    if not read:
        raise DataError(f"{where} has no batch; an iterator that was used up gives none: hand over what makes it")
    firsts = [(inputs, targets) for inputs, targets in read]
    try:
        inputs, targets = firsts[0]
        args = tuple(torch.cat([each.args[i] for each, _ in firsts]) for i in range(len(inputs.args)))
        kwargs = {name: torch.cat([each.kwargs[name] for each, _ in firsts]) for name in inputs.kwargs}
        if isinstance(targets, Mapping):
            joined: Any = {name: torch.cat([each[name] for _, each in firsts]) for name in targets}
        else:
            joined = torch.cat([each for _, each in firsts])
    except (RuntimeError, KeyError, IndexError) as error:
        told = " ".join(str(error).split())
        raise DataError(f"{where}: its batches cannot be put together, pad them to one size: {told}") from error
    return Split.of_tensors(Inputs(args, kwargs), joined)


def _batch(batch: Any, columns: Columns, where: str) -> Batch:
    """Inputs and targets of a batch, as the model and the task take them."""
    given, right = _parted(batch, columns, where)
    try:
        inputs = Inputs.of(_tensors(given, where))
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {error}") from error
    return inputs.map(_scaled), _tensors(right, where)


def _parted(batch: Any, columns: Columns, where: str) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        return _by_name(batch, columns, where)
    if isinstance(batch, tuple | list):
        if len(batch) == 1:
            return batch[0], {}
        *given, right = batch
        if len(given) == 1 and isinstance(given[0], Mapping):
            return _by_name(given[0], Columns(columns.inputs, ("\0",)), where)[0], right
        return (given[0] if len(given) == 1 else tuple(given)), right
    return batch, {}


def _by_name(batch: Mapping[str, Any], columns: Columns, where: str) -> tuple[Any, Any]:
    known = list(batch)
    if missing := [name for name in (*columns.inputs, *columns.targets) if name not in batch and name != "\0"]:
        raise DataError(f"{where}: there is no {missing[0]!r}; there: {listed(known)}")
    right = [name for name in columns.targets if name != "\0"] or ([] if columns.targets else _found(known, where))
    given = columns.inputs or tuple(name for name in known if name not in right)
    if not given:
        raise DataError(f"{where}: nothing but targets: {listed(known)}")
    targets: Any = {name: batch[name] for name in right}
    return {name: batch[name] for name in given}, targets[right[0]] if len(right) == 1 else targets


def _found(names: Sequence[str], where: str) -> list[str]:
    found = [name for name in TARGETS if name in names]
    if len(found) > 1:
        raise DataError(f"{where}: which are the targets, {' or '.join(found)}? Say so by the option `targets`")
    return found


def _tensors(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _tensor(each, f"{where}: {name}") for name, each in value.items()}
    if isinstance(value, tuple | list) and value and not isinstance(value[0], numbers.Number):
        return tuple(_tensor(each, where) for each in value)
    return _tensor(value, where)


def _tensor(value: Any, where: str) -> Tensor:
    """Of one kind of integers and one kind of floats, whatever they came in."""
    import numpy as np
    import torch

    try:
        tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError) as error:
        came = (
            f"a list of {type(value[0]).__name__}"
            if isinstance(value, list | tuple) and value
            else type(value).__name__
        )
        raise DataError(
            f"{where} holds {came}, which is no tensor; name the `inputs` that the model takes, or let collate_fn make"
            " tensors"
        ) from error
    if not tensor.dim():
        raise DataError(f"{where} is a single number, {shapes(tensor)}; (N, …) is needed, samples first")
    if tensor.dtype in (torch.uint8, torch.bool):
        return tensor
    if tensor.is_floating_point():
        return tensor.float()
    return tensor if tensor.is_complex() else tensor.long()


def _scaled(tensor: Tensor) -> Tensor:
    import torch

    return tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor


def _collated(samples: Sequence[Any]) -> Any:
    """Samples as one batch, as torch does it, but lists of numbers are vectors."""
    from torch.utils.data import default_collate

    return default_collate([_vectors(sample) for sample in samples])


def _vectors(sample: Any) -> Any:
    import torch

    if isinstance(sample, Mapping):
        return {name: _vectors(value) for name, value in sample.items()}
    if isinstance(sample, list) and sample and isinstance(sample[0], int | float | list):
        return torch.tensor(sample)
    if isinstance(sample, tuple | list):
        return tuple(_vectors(value) for value in sample)
    return sample


def _is_array(value: Any) -> bool:
    import numpy as np
    import torch

    if isinstance(value, Mapping | tuple):
        return bool(value) and all(map(_is_array, _parts(value)))
    return isinstance(value, torch.Tensor | np.ndarray)


def _parts(value: Any) -> list[Any]:
    return list(value.values() if isinstance(value, Mapping) else value)


def _part(split: Split, rows: Tensor) -> Split:
    return Split(len(rows), lambda index: split.fetch(rows[index]))
