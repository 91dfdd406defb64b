"""The data that a data source hands over: three distinct splits in input units."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

SplitName = Literal["train", "validation", "test"]
"""Which of the three splits."""
Targets: TypeAlias = "Tensor | Mapping[str, Tensor]"
"""What is right: a tensor of shape (N, …), or several by name. Which, and of what shape, is the task's to say."""
Batch: TypeAlias = "tuple[Inputs, Any]"
"""Inputs and their `Targets`."""


@dataclass(frozen=True)
class Inputs:
    """What a model is called with: positional and keyword tensors, each of shape (N, …).

    Example:
        >>> logits = inputs.feed(model)  # model(*inputs.args, **inputs.kwargs)
    """

    args: tuple[Tensor, ...] = ()
    kwargs: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Inputs | Tensor | Sequence[Tensor] | Mapping[str, Tensor]) -> Inputs:
        """A tensor, several in order, or several by name, as inputs.

        Raises:
            TypeError: It is none of these.
        """
        import torch

        if isinstance(given, Inputs):
            return given
        if isinstance(given, torch.Tensor):
            return cls((given,))
        if isinstance(given, Mapping):
            return cls(kwargs=dict(given))
        if isinstance(given, Sequence) and all(isinstance(each, torch.Tensor) for each in given):
            return cls(tuple(given))
        raise TypeError(f"inputs are a tensor, several, or several by name; this is a {type(given).__name__}")

    def __post_init__(self) -> None:
        if not self.args and not self.kwargs:
            raise ValueError("inputs hold no tensor")

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.first)

    def __getitem__(self, index: Any) -> Inputs:
        """Those samples: an index of shape (M,), a mask of shape (N,) or a slice."""
        return self.map(lambda tensor: tensor[index])

    @property
    def first(self) -> Tensor:
        """What is normalised and attacked: the first positional tensor, or the first by name if there is none."""
        return self.args[0] if self.args else next(iter(self.kwargs.values()))

    def with_first(self, tensor: Tensor) -> Inputs:
        """The same with another first tensor."""
        if self.args:
            return Inputs((tensor, *self.args[1:]), self.kwargs)
        return Inputs(kwargs={**self.kwargs, next(iter(self.kwargs)): tensor})

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, positional ones first."""
        return (*self.args, *self.kwargs.values())

    def map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """Each tensor changed alike."""
        return Inputs(tuple(map(change, self.args)), {name: change(tensor) for name, tensor in self.kwargs.items()})

    def to(self, device: torch.device | str) -> Inputs:
        """On that device."""
        return self.map(lambda tensor: tensor.to(device))

    def feed(self, model: nn.Module | Callable[..., Any]) -> Any:
        """What the model returns for them."""
        return model(*self.args, **self.kwargs)


@dataclass(frozen=True)
class Split:
    """Samples that can be fetched by index.

    Inputs come in input units: an image in [0, 1] *before* normalisation, a token as its integer.
    """

    length: int
    read: Callable[[Tensor], tuple[Any, Any]] = field(repr=False)
    """Indices, int64 of shape (N,), to inputs (whatever `Inputs.of` takes) and targets of those samples on the CPU."""
    read_targets: Callable[[Tensor], Any] | None = field(default=None, repr=False)
    """The same to targets alone, where they can be had without reading inputs."""

    def __len__(self) -> int:
        return self.length

    @classmethod
    def of_tensors(cls, inputs: Inputs | Tensor | Sequence[Tensor] | Mapping[str, Tensor], targets: Targets) -> Split:
        """A split whose samples all are in memory; ``uint8`` images are scaled to [0, 1] as they are fetched."""
        import torch

        whole = Inputs.of(inputs)

        def read(index: Tensor) -> Batch:
            picked = whole[index].map(lambda t: t.float() / 255 if t.dtype == torch.uint8 else t)
            return picked, picked_targets(index)

        def picked_targets(index: Tensor) -> Any:
            return mapped(lambda tensor: tensor[index], targets)

        return cls(length=len(whole), read=read, read_targets=picked_targets)

    def fetch(self, index: Tensor) -> Batch:
        """The samples of those indices, int64 of shape (N,), on the CPU."""
        inputs, targets = self.read(index)
        return Inputs.of(inputs), targets

    def part(self, rows: Tensor) -> Split:
        """Those samples alone, in that order.

        Args:
            rows: Their indices, int64 of shape (M,).
        """

        def of(read: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
            return lambda index: read(rows[index])

        return Split(len(rows), of(self.read), None if self.read_targets is None else of(self.read_targets))

    def batches(
        self,
        size: int,
        *,
        samples: int | None = None,
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
    ) -> Iterator[Batch]:
        """Batches of at most ``size`` samples.

        Args:
            size: Samples in a batch.
            samples: Only the first so many samples (all when None or more than there are).
            device: Where the batches go.
            generator: Shuffles the samples; in order when None.
        """
        import torch

        count = self.length if samples is None else min(samples, self.length)
        order = torch.arange(count) if generator is None else torch.randperm(self.length, generator=generator)[:count]
        for index in order.split(size):  # type: ignore[no-untyped-call]
            inputs, targets = self.fetch(index)
            yield inputs.to(device), mapped(lambda tensor: tensor.to(device), targets)


def mapped(change: Callable[[Tensor], Tensor], targets: Targets) -> Any:
    """Targets, each tensor of them changed alike."""
    if isinstance(targets, Mapping):
        return {name: change(tensor) for name, tensor in targets.items()}
    return change(targets)


@dataclass(frozen=True)
class Normalization:
    """Per-channel ``(x - mean) / std`` of the first input, applied by the host in front of the network."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Data:
    """Train, validation and test splits. They share no sample."""

    train: Split
    validation: Split
    test: Split
    classes: int | None = None
    """How many there are, where targets are classes."""
    normalization: Normalization | None = None
    bounds: tuple[float, float] | None = None
    """Smallest and largest legal value of the first input, in input units; None where an attack makes no sense
    (tokens)."""

    def split(self, name: SplitName) -> Split:
        """The split of that name."""
        splits: dict[SplitName, Split] = {"train": self.train, "validation": self.validation, "test": self.test}
        return splits[name]
