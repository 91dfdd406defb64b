"""A batch, whatever it came as, as inputs and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from autoprune.errors import DataError
from autoprune.plugin.data import Inputs
from autoprune.plugin.task import shapes
from autoprune.toolkit.files import listed, near

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin.data import Batch
    from autoprune.toolkit.loading import Columns

TARGETS = ("labels", "label", "targets", "target", "y")
"""What targets are called in a batch by name, unless told."""


def batch_of(batch: Any, columns: Columns, where: str) -> Batch:
    """Inputs and targets of a batch, as the model and the task take them; images may still be uint8.

    Args:
        batch: A tuple (inputs…, targets), a mapping by name, or inputs alone.
        columns: Of one by name.
        where: What to call it in an error.

    Raises:
        DataError: It holds something else, or not as many of each.
    """
    raw, right = _parted(batch, columns, where)
    try:
        inputs = Inputs.of(_tensors(raw, where, _input))
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {error}") from error
    targets = {} if right is None else _tensors(right, where, _target)
    if isinstance(targets, tuple):
        targets = {str(number): tensor for number, tensor in enumerate(targets)}
    if len({len(tensor) for tensor in leaves((inputs, targets))}) > 1:
        given = {**{str(number): tensor for number, tensor in enumerate(inputs.args)}, **inputs.kwargs}
        raise DataError(f"{where}: not as many of each: inputs are {shapes(given)} and targets {shapes(targets)}")
    return inputs, targets


def _parted(batch: Any, columns: Columns, where: str) -> tuple[Any, Any]:
    """What a batch says of inputs, and of targets: None where there are none."""
    if isinstance(batch, Mapping):
        return _by_name(batch, columns, where)
    given, right = (batch[:-1], batch[-1]) if isinstance(batch, tuple | list) and len(batch) > 1 else (batch, None)
    if isinstance(given, tuple | list) and len(given) == 1:
        given = given[0]
    if isinstance(given, Mapping) and not columns.targets:
        return _by_name(given, columns, where, all_inputs=True)[0], right
    if columns.inputs or columns.targets:
        raise DataError(f"{where}: its batches are tuples, whose parts have no names; leave `inputs` and `targets` out")
    return given, right


def _by_name(batch: Mapping[str, Any], columns: Columns, where: str, *, all_inputs: bool = False) -> tuple[Any, Any]:
    _check_named(batch, columns, where)
    keywords = columns.keywords
    right = () if all_inputs else columns.targets or _targets_of(batch, where, keywords)
    keywords = keywords or {name: name for name in batch if name not in right}
    if not keywords:
        raise DataError(f"{where}: nothing but targets: {listed(map(str, batch))}")
    given = {keyword: batch[name] for keyword, name in keywords.items()}
    return given, batch[right[0]] if len(right) == 1 else {name: batch[name] for name in right}


def _check_named(batch: Mapping[str, Any], columns: Columns, where: str) -> None:
    if missing := [name for name in (*columns.keywords.values(), *columns.targets) if name not in batch]:
        raise DataError(f"{where}: there is no {missing[0]!r}{near(missing[0], map(str, batch))}")


def _targets_of(batch: Mapping[str, Any], where: str, keywords: Mapping[str, str]) -> tuple[str, ...]:
    found = tuple(name for name in TARGETS if name in batch and name not in keywords.values())
    if len(found) > 1:
        raise DataError(f"{where}: which are the targets, {' or '.join(found)}? Say so by the option `targets`")
    return found


def _tensors(value: Any, where: str, of: Callable[[Any, str], Tensor]) -> Any:
    if isinstance(value, Mapping):
        return {str(name): of(each, f"{where}: {name}") for name, each in value.items()}
    if isinstance(value, tuple | list) and value and not isinstance(value[0], int | float | list):
        return tuple(of(each, where) for each in value)
    return of(value, where)


def _input(value: Any, where: str) -> Tensor:
    import torch

    tensor = _tensor(value, where)
    if tensor.dtype == torch.uint8 and tensor.dim() < 3:
        raise DataError(
            f"{where}: {shapes(tensor)} may be pixels or numbers; pixels are (N, H, W), (N, C, H, W) or floats in"
            " [0, 1], and tokens and masks int64 or bool"
        )
    return tensor


def _target(value: Any, where: str) -> Tensor:
    import torch

    tensor = _tensor(value, where)
    return tensor.long() if tensor.dtype == torch.uint8 else tensor


def _tensor(value: Any, where: str) -> Tensor:
    """Of one kind of integers and one kind of floats, whatever they came in; uint8 stays."""
    import numpy as np
    import torch

    try:
        tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError) as error:
        came = type(value).__name__ + (f" of {type(value[0]).__name__}" if isinstance(value, list) and value else "")
        raise DataError(
            f"{where} holds {came}, which is no tensor; name the `inputs` that the model takes, or let collate_fn make"
            " tensors"
        ) from error
    if not tensor.dim():
        raise DataError(
            f"{where} is a single number, {shapes(tensor)}; (N, …) is needed, samples first: a list holds samples, an"
            " iterable without a length batches"
        )
    tensor = tensor.detach().cpu()
    if tensor.dtype in (torch.uint8, torch.bool) or tensor.is_complex():
        return tensor
    return tensor.float() if tensor.is_floating_point() else tensor.long()


def collating(columns: Columns, where: str) -> Callable[[list[Any]], Any]:
    """Samples to a batch, as torch does it, but lists of numbers are vectors, and only named columns are taken."""
    from torch.utils.data import default_collate

    def needed(sample: Any) -> Any:
        if not columns.inputs or not isinstance(sample, Mapping):
            return _vectors(sample)
        _check_named(sample, columns, where)
        names = {*columns.keywords.values(), *(columns.targets or TARGETS)}
        return _vectors({name: sample[name] for name in sample if name in names})

    return lambda samples: default_collate([needed(sample) for sample in samples])


def _vectors(sample: Any) -> Any:
    import torch

    if isinstance(sample, Mapping):
        return {name: _vectors(value) for name, value in sample.items()}
    if isinstance(sample, list) and sample and isinstance(sample[0], int | float | list):
        return torch.tensor(sample)
    return tuple(map(_vectors, sample)) if isinstance(sample, tuple | list) else sample


def leaves(batch: Batch) -> list[Tensor]:
    """All tensors of a batch, inputs first."""
    inputs, targets = batch
    return [*inputs.tensors, *(targets.values() if isinstance(targets, Mapping) else (targets,))]
