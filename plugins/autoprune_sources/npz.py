"""Arrays in one NumPy file."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from autoprune.plugin import Data, SourceContext
from autoprune.toolkit.files import existing
from autoprune_sources._options import NormalizedSource


class Npz(NormalizedSource):
    """Arrays of an ``.npz`` file: ``x_train``, ``y_train``, ``x_test``, …, or ``x`` and ``y`` alone.

    ``train_x`` is read as ``x_train``, and ``valid`` and ``val`` as ``validation``. Integer images (``uint8``; with
    their channels first, last or left out) are scaled to [0, 1]; floats are taken as they are. Integer targets, one per
    sample, are classes; floats of any shape (N, …) are numbers to predict.
    """

    name = "npz"

    path: Path = Field(description="The .npz file.")
    inputs: str = Field(default="x", description="Name of the input arrays, without the split.")
    targets: str = Field(
        default="y", description="Name of the arrays of integer classes or float numbers, without the split."
    )
    bounds: tuple[float, float] | None = Field(
        default=None,
        description="Smallest and largest legal value of float inputs, needed to attack them; uint8 has its own.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.bounds is not None and self.bounds[0] >= self.bounds[1]:
            raise ValueError(f"bounds: {self.bounds[0]} is not below {self.bounds[1]}")
        return self

    def load(self, ctx: SourceContext) -> Data:
        """The splits; one that has no arrays is carved from the training split."""
        import torch

        from autoprune.toolkit.splits import Samples, number_of_classes, three_splits
        from autoprune_sources._npz import read_arrays

        arrays = read_arrays(existing(self.path, ctx), inputs=self.inputs, targets=self.targets)
        found = {split: Samples(targets, inputs.__getitem__) for split, (inputs, targets) in arrays.items()}
        inputs = arrays["train"][0]
        return Data(
            **three_splits(found, validation=self.validation, test=self.test),
            classes=number_of_classes(found),
            normalization=None if self.normalize is None else self.normalize.of(inputs.shape[1]),
            # What read_arrays leaves as uint8 is an image, scaled to [0, 1].
            bounds=(0.0, 1.0) if inputs.dtype == torch.uint8 else self.bounds,
        )
