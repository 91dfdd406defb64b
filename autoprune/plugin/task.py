"""What right means for a model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from autoprune.errors import TrialError
from autoprune.plugin.component import Component

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin.data import Data


class Task(Component):
    """What right means for a model: its loss, how far two outputs are apart, how many elements are right.

    Everything that needs one of these asks the task: probes, scorers, training, attacks, metrics. ``outputs`` are what
    `pick` gives, a tensor or several by name, N samples first.
    """

    kind = "task"
    targets_are: ClassVar[Literal["the data's", "the dense model's"]] = "the data's"
    """Whose targets count: those of the data, or what the dense model puts out for the same inputs. Then the data needs
    none."""

    output: str = Field(
        default="",
        description="Where the tensor stands in what the model returns: logits, 0, boxes.1; found where there is one"
        " answer.",
    )

    def pick(self, returned: Any) -> Any:
        """The tensor that the task speaks of, or several by name, in whatever the model returned.

        Raises:
            TrialError: It is not there, or ``output`` is empty and several tensors are.
        """
        import torch

        if not self.output:
            if isinstance(returned, torch.Tensor):
                return returned
            found = dict(_tensors(returned))
            if "logits" in found or len(found) == 1:
                return found.get("logits", next(iter(found.values())))
            raise TrialError(f"the model returns {_told(returned)}; say which with {{output: …}} of the task")
        at = found_at(returned, self.output)
        if not isinstance(at, torch.Tensor):
            raise TrialError(f"there is no tensor at {self.output!r}: the model returns {_told(returned)}")
        return at

    def part(self, name: str) -> Task:
        """The task of one of several outputs; what it speaks of is ``outputs[name]`` and ``targets[name]``.

        Raises:
            TrialError: There is none of that name, or the task has one output alone.
        """
        raise TrialError(f"there is no head {name!r}: task {self.name} has no heads, multi-head has")

    @abstractmethod
    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """Loss of each sample, (N,), differentiable."""

    def training_loss(self, outputs: Any, targets: Any) -> Tensor:
        """What training minimises, (N,): the loss, unless a task regularises it."""
        return self.loss(outputs, targets)

    @abstractmethod
    def divergence(self, outputs: Any, dense: Any, targets: Any = None) -> Tensor:
        """How far outputs are from the dense model's, (N,), 0 or more; what probes and precision checks use.

        It adds up over small changes best where it is quadratic in them; 1 is a lot, 0.001 counts as the same.

        Args:
            outputs: Of a model.
            dense: Of the dense model, for the same inputs.
            targets: Those of the samples, for tasks whose targets say what does not count; a task without such may
                leave the argument out.
        """

    @abstractmethod
    def agreement(self, outputs: Any, dense: Any, targets: Any = None) -> Tensor:
        """Share of what the dense model says that outputs still say, (N,), in [0, 1]; arguments as in `divergence`."""

    def correct(self, outputs: Any, targets: Any) -> Tensor | None:  # noqa: ARG002  for subclasses
        """Share of right elements, (N,), in [0, 1]; None where nothing is right or wrong."""
        return None

    def counted(self, outputs: Any, targets: Any) -> Tensor | None:  # noqa: ARG002  for subclasses
        """How many elements of each sample count, (N,); None where each sample counts once.

        Means over samples are weighted by it: a mean over all elements that count. A sample in which none does has the
        loss, divergence and right share 0.
        """
        return None

    def refuses(self, outputs: Any, targets: Any, data: Data) -> str | None:  # noqa: ARG002  for subclasses
        """Why a batch does not fit it, in one line that says what came and what to write; None when it does.

        Asked before the first trial.

        Args:
            outputs: Of the dense model.
            targets: As the data source hands them out.
            data: The study's.
        """
        return None

    def faulty(self, targets: Any, outputs: Any) -> str | None:  # noqa: ARG002  for subclasses
        """What is wrong with the values of targets, such as a class that the model does not know; None when nothing is.

        Asked before the first trial, of one batch of the data after the other.

        Args:
            targets: As the data source hands them out.
            outputs: Of the dense model, of other samples.
        """
        return None


def shapes(tensors: Any) -> str:
    """A tensor, or several by name, as a message says it: ``(4, 10) float32``."""
    if isinstance(tensors, Mapping):
        return "{" + ", ".join(f"{name}: {shapes(tensor)}" for name, tensor in tensors.items()) + "}"
    shape, dtype = getattr(tensors, "shape", None), getattr(tensors, "dtype", None)
    if shape is None:
        return type(tensors).__name__
    return f"{tuple(shape)} {str(dtype).removeprefix('torch.')}"


def found_at(returned: Any, place: str) -> Any:
    """What stands at a place, such as ``logits``, ``0`` or ``boxes.1``, in what a model returned.

    Raises:
        TrialError: Nothing does; says what the model returned.
    """
    at = returned
    for part in place.split("."):
        at = _at(at, part)
    if at is None:
        raise TrialError(f"there is no tensor at {place!r}: the model returns {_told(returned)}")
    return at


def _tensors(returned: Any) -> list[tuple[str, Any]]:
    """What a model returned, tensors alone, by name or number."""
    import torch

    if isinstance(returned, Mapping):
        pairs = [(str(key), value) for key, value in returned.items()]
    elif isinstance(returned, Sequence) and not isinstance(returned, str):
        pairs = [(str(index), value) for index, value in enumerate(returned)]
    else:
        pairs = [(key, value) for key, value in getattr(returned, "__dict__", {}).items() if not key.startswith("_")]
    return [(key, value) for key, value in pairs if isinstance(value, torch.Tensor)]


def _told(returned: Any) -> str:
    found = ", ".join(f"{name}: {shapes(value)}" for name, value in _tensors(returned)[:8])
    return f"a {type(returned).__name__} with {{{found}}}" if found else f"a {type(returned).__name__}"


def _at(value: Any, part: str) -> Any:
    if isinstance(value, Mapping) and part in value:
        return value[part]
    if part.isdecimal() and isinstance(value, Sequence) and int(part) < len(value):
        return value[int(part)]
    return getattr(value, part, None)
