"""The data that a data source hands over: three distinct splits in input units."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SplitName = Literal["train", "validation", "test"]
Batch = tuple[tuple["Tensor", ...], "Tensor"]
"""Inputs, each of shape (N, …), as positional arguments of the model; targets of shape (N,)."""


@dataclass(frozen=True)
class Split:
    """Samples that can be fetched by index.

    Inputs come in input units: an image in [0, 1] *before* normalisation, a token as its integer.
    """

    length: int
    fetch: Callable[[Tensor], Batch]
    """Indices, int64 of shape (N,), to the batch of those samples on the CPU."""

    def __len__(self) -> int:
        return self.length

    @classmethod
    def of_tensors(cls, inputs: tuple[Tensor, ...], targets: Tensor) -> Split:
        """A split whose samples all are in memory; ``uint8`` images are scaled to [0, 1] as they are fetched."""
        import torch

        def fetch(index: Tensor) -> Batch:
            picked = tuple(t[index] for t in inputs)
            return tuple(t.float() / 255 if t.dtype == torch.uint8 else t for t in picked), targets[index]

        return cls(length=len(targets), fetch=fetch)

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
            yield tuple(t.to(device) for t in inputs), targets.to(device)


@dataclass(frozen=True)
class Normalization:
    """Per-channel ``(x - mean) / std`` of the first input, applied by the host in front of the network."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Data:
    """Train, validation and test splits of a classification problem. The splits share no sample."""

    train: Split
    validation: Split
    test: Split
    classes: int
    normalization: Normalization | None = None
    bounds: tuple[float, float] | None = None
    """Smallest and largest legal value of the first input, in input units; None where an attack makes no sense
    (tokens)."""

    def split(self, name: SplitName) -> Split:
        """The split of that name."""
        splits: dict[SplitName, Split] = {"train": self.train, "validation": self.validation, "test": self.test}
        return splits[name]
