"""Calling a metric that a user wrote, and saying what is wrong with what it does."""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoprune import TrialError
from autoprune.plugin import SourceContext
from autoprune.plugin.data import mapped
from autoprune.plugin.task import shapes
from autoprune.toolkit.files import found_paths, near
from autoprune.toolkit.importing import importable, look_up_any, told

_FED = ("update", "compute", "reset")
_MOST_KEPT = 2**32
"""Bytes of outputs and targets of all samples: more would likely end the process without a word."""


class UserCode:
    """A function of outputs and targets, or a metric that is fed batch by batch."""

    def __init__(self, found: Any, target: str, folder: Path) -> None:
        """Wrap it.

        Args:
            found: The function, or the metric: what has ``update``, ``compute`` and ``reset``.
            target: What the spec calls it.
            folder: Of the spec: lines of files in there are told.
        """
        self._found = found
        self._folder = folder
        self._target = target
        self._what = f"{target}{_line(found)}"
        self.fed = _is_fed(found)
        """Whether it is a metric that is fed."""

    def check_direction(self, direction: str) -> None:
        """Compare with ``higher_is_better``, if there is such a thing.

        Raises:
            TrialError: It says the opposite.
        """
        higher = getattr(self._found, "higher_is_better", None)
        if higher is not None and bool(higher) != (direction == "maximize"):
            right = "maximize" if higher else "minimize"
            raise TrialError(f"{self._what} says that {'higher' if higher else 'lower'} is better: direction: {right}")

    def update(self, outputs: Any, targets: Any) -> None:
        """Feed a batch.

        Raises:
            TrialError: It fails.
        """
        self._call(self._found.update, outputs, targets)

    def computed(self) -> float:
        """The value of all batches, after which it is empty again.

        Raises:
            TrialError: It fails, or the value is no finite number.
        """
        value = self._number(self._call(self._found.compute))
        self._call(self._found.reset)
        return value

    def of(self, outputs: Any, targets: Any) -> float:
        """The value of some samples.

        Raises:
            TrialError: It fails, or gives what is no finite number.
        """
        if not self.fed:
            return self._number(self._call(self._found, outputs, targets))
        self._call(self._found.reset)
        self.update(outputs, targets)
        return self.computed()

    def of_each(self, outputs: Any, targets: Any) -> Tensor:
        """The value of each sample, (N,) float64.

        Raises:
            TrialError: It fails, or gives what are no finite numbers, one each.
        """
        if self.fed:
            raise TrialError(f"{self._what} is fed batch by batch; per_sample is for functions that give (N,)")
        given = self._call(self._found, outputs, targets)
        array = given.detach() if isinstance(given, Tensor) else self._call(np.asarray, given)
        count = len(next(iter(outputs.values())) if isinstance(outputs, Mapping) else outputs)
        if array.shape != (count,):
            raise TrialError(f"{self._what} gives {shapes(array)} for {count} samples, not one value each")
        values: Tensor = self._call(torch.as_tensor, array).cpu().double()
        if not bool(values.isfinite().all()):
            raise TrialError(f"{self._what} gives {values[~values.isfinite()][0]:g} for a sample")
        return values

    def resampled(self, outputs: Any, targets: Any, draws: Iterator[Tensor]) -> list[float]:
        """The value of samples drawn from all of them, for each draw; NaN where it has none or fails.

        A few samples may lack what it takes, such as a second class; warnings of that are not shown.
        """
        values = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for index in draws:
                try:
                    values.append(self.of(_picked(outputs, index), _picked(targets, index)))
                except TrialError:
                    values.append(math.nan)
        return values

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except Exception as error:  # whatever the user's code raises
            raise TrialError(f"{self._target}: {told(error, self._folder)}") from error

    def _number(self, given: Any) -> float:
        single = given.numel() == 1 if isinstance(given, Tensor) else getattr(given, "size", 0) == 1
        value = given.item() if single and isinstance(given, Tensor | np.ndarray | np.generic) else given
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TrialError(f"{self._what} gives {shapes(given)}, not a number")
        if not math.isfinite(value):
            raise TrialError(f"{self._what} gives {value}")
        return float(value)


class Kept:
    """Outputs and targets of all samples, put together on the CPU."""

    def __init__(self, way_out: str) -> None:
        """Nothing yet.

        Args:
            way_out: What to write in the spec where they do not fit together, or not into memory.
        """
        self._way_out = way_out
        self._batches: list[tuple[Any, Any]] = []
        self.bytes = 0
        """That they take by now."""

    def add(self, outputs: Any, targets: Any) -> None:
        """Take in a batch.

        Raises:
            TrialError: They become too many.
        """
        self._batches.append((outputs, targets))
        self.bytes += sum(leaf.nbytes for leaf in (*_leaves(outputs).values(), *_leaves(targets).values()))
        if self.bytes > _MOST_KEPT:
            raise TrialError(
                f"outputs and targets of all samples take more than {_MOST_KEPT / 2**30:g} GiB; use fewer `samples`, or"
                f" write {self._way_out}"
            )

    def joined(self) -> tuple[Any, Any]:
        """Those of all samples.

        Raises:
            TrialError: Batches are of several shapes.
        """
        outputs, targets = zip(*self._batches, strict=True)
        return self._join("outputs", outputs), self._join("targets", targets)

    def _join(self, what: str, batches: tuple[Any, ...]) -> Any:
        joined = {}
        for name in _leaves(batches[0]):
            leaves = [_leaves(batch)[name] for batch in batches]
            for leaf in leaves:
                if leaf.shape[1:] != leaves[0].shape[1:]:
                    raise TrialError(
                        f"{what} of batches are {shapes(leaves[0])} and {shapes(leaf)}, but the metric is of all"
                        f" samples at once; let the data pad them to one length, or write {self._way_out}"
                    )
            joined[name] = torch.cat(leaves)
        return joined if isinstance(batches[0], Mapping) else joined[""]


@contextmanager
def user_code(target: str, args: Mapping[str, Any], source: SourceContext) -> Iterator[UserCode]:
    """What a target names, while modules of the spec's folder can be imported.

    Args:
        target: ``module:function``, ``module:class`` or ``live:name``.
        args: Further keyword arguments of the function, or of the class.
        source: Where to look.

    Raises:
        DataError: It cannot be found or imported.
        TrialError: It is none of these, or the class cannot be made.
    """
    folder = source.folder
    with importable(folder):
        found = _live(target, source) if target.startswith("live:") else look_up_any(target, folder)
        options = found_paths(args, folder)
        if inspect.isclass(found):
            try:
                found = found(**options)
            except Exception as error:  # whatever the user's code raises
                raise TrialError(f"{target}: making it failed: {told(error, folder)}") from error
        elif _is_fed(found):
            if options:
                raise TrialError(f"{target} is an instance already: `args` are for a class, or a function")
            found = copy.deepcopy(found)
        elif callable(found) and options:
            found = partial(found, **options)
        if not callable(found) and not _is_fed(found):
            raise TrialError(
                f"{target} is {type(found).__name__}: neither a function (outputs, targets) nor what has"
                f" {', '.join(_FED)}"
            )
        yield UserCode(found, target, folder)


def batch_on_cpu(outputs: Any, targets: Any) -> tuple[Any, Any]:
    """A batch that user code may write into: targets are copied, since other models get them, too."""
    return mapped(_on_cpu, outputs), mapped(lambda tensor: tensor.cpu().clone(), targets)


def copied(outputs: Any, targets: Any) -> tuple[Any, Any]:
    """The same, for user code to write into."""
    return mapped(torch.clone, outputs), mapped(torch.clone, targets)


def _on_cpu(outputs: Tensor) -> Tensor:
    """In float32 if they are in half precision, which NumPy has not, or not all of."""
    half = outputs.is_floating_point() and outputs.dtype.itemsize < 4
    return outputs.detach().cpu().float() if half else outputs.detach().cpu()


def _live(target: str, source: SourceContext) -> Any:
    name = target.partition(":")[2]
    known = source.objects.get("metrics", {})
    if name not in known:
        raise TrialError(
            f"{target}: Python code handed over no metric of that name{near(name, known)}; a file's is found anywhere:"
            " module:function"
        )
    return known[name]


def _is_fed(found: Any) -> bool:
    return not inspect.isclass(found) and all(callable(getattr(found, name, None)) for name in _FED)


def _line(found: Any) -> str:
    """Where a function begins, or the class of anything else, in brackets; nothing where Python cannot tell."""
    function = found.func if isinstance(found, partial) else found
    try:
        made_by = function if inspect.isroutine(function) else type(function)
        return f" ({inspect.getsourcefile(made_by)}:{inspect.getsourcelines(made_by)[1]})"
    except (OSError, TypeError):
        return ""


def _leaves(tensors: Any) -> Mapping[str, Tensor]:
    return tensors if isinstance(tensors, Mapping) else {"": tensors}


def _picked(tensors: Any, index: Tensor) -> Any:
    return mapped(lambda tensor: tensor[index], tensors)
