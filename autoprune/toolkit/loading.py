"""Whatever people keep their samples in, as splits: tensors, datasets, loaders, iterables of batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoprune.errors import DataError
from autoprune.plugin.data import Split, SplitName
from autoprune.plugin.task import shapes
from autoprune.toolkit._batches import batch_of, collating, leaves
from autoprune.toolkit.files import listed, near
from autoprune.toolkit.splits import SPLIT_NAMES, carved, random_order

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin.data import Batch


@dataclass(frozen=True)
class Columns:
    """Which parts of a batch by name are inputs, and which are targets."""

    inputs: Mapping[str, str] | tuple[str, ...] = ()
    """Keyword of the model to name, or names that are its keywords; all that are no targets if empty."""
    targets: tuple[str, ...] = ()
    """``labels``, ``label``, ``targets``, ``target`` or ``y`` if empty; of several, targets are by name."""

    @property
    def keywords(self) -> Mapping[str, str]:
        """Keyword to name."""
        return self.inputs if isinstance(self.inputs, Mapping) else {name: name for name in self.inputs}


_FOUND = Columns()
"""What is not told is found."""
_COMPARED = 8
"""Samples that are fetched twice, to see whether they are the same again."""


def three_loaded(
    found: Mapping[str, Any],
    *,
    columns: Columns = _FOUND,
    validation: float = 0.1,
    test: float = 0.2,
) -> dict[SplitName, Split]:
    """Splits of whatever samples are kept in; what was not found is carved from the training split.

    Samples are in a fixed random order, as the search uses the first so many and they are often kept class by class; a
    `Split` stays in its own.

    Args:
        found: ``train``, and ``validation`` (``valid``, ``val``) and ``test`` where there are such, each one of those
            that `loaded` takes.
        columns: Of batches by name.
        validation: Fraction (below 1) or number of training samples for a missing validation split.
        test: The same for a missing test split.

    Raises:
        DataError: There is no training split, a name is unknown, a split cannot be read, two of them share samples, or
            what the search measures is another sample each time; it says what came.
    """
    named = {alias: name for name, aliases in SPLIT_NAMES.items() for alias in aliases}
    if unknown := [name for name in found if name not in named]:
        raise DataError(f"data has {str(unknown[0])!r}{near(str(unknown[0]), named)}")
    if "train" not in found:
        raise DataError("data has no 'train': scorers and training need it")
    if doubled := [name for name, aliases in SPLIT_NAMES.items() if sum(alias in found for alias in aliases) > 1]:
        raise DataError(f"data has {doubled[0]} under two names: {listed(SPLIT_NAMES[doubled[0]])} are the same")
    _check_distinct(found)
    whole = {named[name]: loaded(source, columns=columns, where=name) for name, source in found.items()}
    orders = {named[name]: _order(source, whole[named[name]]) for name, source in found.items()}
    if len(orders) < len(SPLIT_NAMES):  # what is carved from is in random order, even if it is a split already
        orders["train"] = random_order(len(whole["train"]))
    parts = carved(orders, validation=validation, test=test)
    splits = {name: whole[origin].part(order) for name, (origin, order) in parts.items()}
    for name in ("validation", "test"):
        _check_repeats(splits[name], name if name in whole else f"{name}, carved from train,")
    return splits


def loaded(source: Any, *, columns: Columns = _FOUND, where: str = "data") -> Split:
    """A split of whatever samples are kept in.

    Batches, and the samples of datasets, are tuples (inputs…, targets), mappings by name (a ``BatchEncoding`` is one),
    or inputs alone, where no targets are needed. Of a loader its dataset, its ``collate_fn`` and the samples that its
    sampler draws are used, so that they can be fetched by number; what has no length or no places, such as a generator,
    is read whole into memory. ``uint8`` of shape (N, H, W) or (N, C, H, W) stands for images in [0, 1]; other numbers
    become int64 or float32.

    Args:
        source: A `Split`, a `torch.utils.data.Dataset` or another sequence of samples, a `DataLoader`, an iterable of
            batches, or a tuple or a mapping of tensors or arrays of all samples.
        columns: Of batches by name.
        where: What to call it in an error.

    Raises:
        DataError: It is none of these, is empty, or its samples are no tensors or numbers; says what came.
    """
    from torch.utils.data import DataLoader, IterableDataset

    if isinstance(source, Split):
        return source
    if _is_whole(source):
        return Split.of_tensors(*batch_of(source, columns, where))
    if (items := _items(source, columns, where)) is not None:
        return _of_items(items, columns, where)
    if isinstance(source, IterableDataset):  # gives samples, not batches
        source = DataLoader(source, batch_size=256, collate_fn=collating(columns, where))
    if isinstance(source, Iterable):
        return _read_whole(source, columns, where)
    raise DataError(
        f"{where} is of type {type(source).__name__}; it takes a torch Dataset, a DataLoader, an iterable of batches,"
        " or a tuple of tensors: see docs/prune-your-own-model.md"
    )


@dataclass(frozen=True)
class _Items:
    """Samples that can be fetched by number."""

    kept: Any
    rows: Sequence[Any]
    """Which of those that are kept."""
    collate: Callable[[list[Any]], Any]

    def fetch(self, index: Tensor, where: str) -> Any:
        """A batch of the samples of those indices."""
        rows = [self.rows[i] for i in index.tolist()]
        together = getattr(self.kept, "__getitems__", None)
        try:
            samples = together(rows) if callable(together) else [self.kept[row] for row in rows]
        except Exception as error:  # whatever the user's code raises
            told = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise DataError(f"{where}: sample {rows[0]} cannot be fetched: {told}") from error
        try:
            return self.collate(samples)
        except DataError:
            raise
        except Exception as error:
            told = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise DataError(
                f"{where}: its samples make no batch; let each be tensors of one size, name the `inputs` that the model"
                f" takes, or hand over a DataLoader with a collate_fn that pads them: {told}"
            ) from error


def _is_whole(source: Any) -> bool:
    """Whether it holds all samples as one batch: tensors or arrays, or several of them."""
    import numpy as np
    import torch

    return isinstance(source, torch.Tensor | np.ndarray | tuple | Mapping)


def _items(source: Any, columns: Columns, where: str) -> _Items | None:
    """What samples can be fetched from by number, if there is such a thing."""
    from torch.utils.data import DataLoader, IterableDataset, Subset

    collate, rows = collating(columns, where), None
    if isinstance(source, DataLoader):
        if isinstance(source.dataset, IterableDataset) or source.batch_sampler is None:
            return None  # what it gives are batches, whatever its dataset holds
        collate, rows, source = source.collate_fn, _drawn(source), source.dataset
    if _is_whole(source) or not (hasattr(source, "__getitem__") and hasattr(source, "__len__")):
        return None
    rows = range(len(source)) if rows is None else rows
    while type(source) is Subset:
        rows, source = [_number(source.indices[row]) for row in rows], source.dataset
    return _Items(source, rows, collate)


def _drawn(loader: Any) -> Sequence[Any] | None:
    """Which samples of its dataset a loader draws, in one pass at least; None for all of them."""
    import torch
    from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler, WeightedRandomSampler

    plain = type(loader.batch_sampler) is BatchSampler
    sampler = loader.batch_sampler.sampler if plain else itertools.chain.from_iterable(loader.batch_sampler)
    if type(sampler) in (SequentialSampler, RandomSampler):
        return None
    if type(sampler) is WeightedRandomSampler:
        return [row for row, weight in enumerate(sampler.weights.tolist()) if weight > 0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = itertools.islice(sampler, 10 * len(loader.dataset))  # some never end
        return sorted(set(map(_number, drawn)))


def _check_distinct(found: Mapping[str, Any]) -> None:
    """Refuse splits that share samples of one dataset."""
    for (one, first), (other, second) in itertools.combinations(found.items(), 2):
        some, others = _items(first, _FOUND, one), _items(second, _FOUND, other)
        if first is second:
            shared = "all samples"
        elif some is None or others is None or some.kept is not others.kept:
            continue
        elif common := set(some.rows) & set(others.rows):
            shared = f"{len(common)} samples"
        else:
            continue
        raise DataError(
            f"{one} and {other} share {shared}; a split that is left out is carved from train, and shares none"
        )


def _check_repeats(split: Split, where: str) -> None:
    """Refuse samples that are others each time: candidates are compared on the same ones."""
    import torch

    index = torch.arange(min(_COMPARED, len(split)))
    first, again = (leaves(split.fetch(index)) for _ in range(2))
    if not all(torch.allclose(a, b, rtol=0, atol=0, equal_nan=True) for a, b in zip(first, again, strict=True)):
        raise DataError(
            f"{where} holds other samples each time they are fetched; leave random transforms and masks out of what is"
            " measured"
        )


def _of_items(items: _Items, columns: Columns, where: str) -> Split:
    import torch

    count = len(items.rows)
    if not count:
        raise DataError(f"{where} has no sample")

    def read(index: Tensor) -> Batch:
        inputs, targets = batch_of(items.fetch(index, where), columns, where)
        if len(inputs) != len(index):
            raise DataError(f"{where}: {len(index)} samples make a batch of {len(inputs)}: {shapes(inputs.first)}")
        return inputs.map(lambda tensor: tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor), targets

    read(torch.tensor([0, count // 2, count - 1]))  # what is wrong with samples is told now
    return Split(count, read)


def _read_whole(batches: Iterable[Any], columns: Columns, where: str) -> Split:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a loader that shuffles gives the same order in every process
        read = [batch_of(batch, columns, where) for batch in batches]
    if not read:
        raise DataError(f"{where} has no batch; an iterator that was used up gives none: hand over what makes it")
    parts = [leaves(batch) for batch in read]
    try:
        whole = iter([torch.cat(same) for same in zip(*parts, strict=True)])
    except (RuntimeError, ValueError) as error:
        told = " ".join(str(error).split())
        raise DataError(f"{where}: its batches cannot be put together, pad them to one size: {told}") from error
    inputs, targets = read[0]
    inputs = inputs.map(lambda _: next(whole))
    named = {name: next(whole) for name in targets} if isinstance(targets, Mapping) else next(whole)
    return Split.of_tensors(inputs, named)


def _number(row: Any) -> Any:
    """An index that can be compared, whatever it came as."""
    return row.item() if hasattr(row, "item") else row


def _order(source: Any, split: Split) -> Tensor:
    import torch

    return torch.arange(len(split)) if source is split else random_order(len(split))
