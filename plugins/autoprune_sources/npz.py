"""Arrays in one NumPy file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from autoprune.plugin import Data, SourceContext
from autoprune.toolkit.files import existing
from autoprune_sources._options import Bounds, NormalizedSource, checked_bounds

_Several = Annotated[tuple[str, ...], Field(min_length=1)] | Annotated[dict[str, str], Field(min_length=1)]


class Npz(NormalizedSource):
    """Arrays of an ``.npz`` file: ``x_train``, ``y_train``, ``x_test``, …, or ``x`` and ``y`` alone.

    ``train_x`` is read as ``x_train``, and ``valid`` and ``val`` as ``validation``. Images, ``uint8`` of shape
    (N, H, W) with their channels first, last or left out, are scaled to [0, 1]. Other numbers are taken as they are:
    integers of any shape are classes or tokens, floats numbers, bools masks or labels that hold or not.
    """

    name = "npz"

    path: Path = Field(description="The .npz file.")
    inputs: str | _Several = Field(
        default="x",
        description="Name of the array that the model takes, without the split; of several, a list for positional"
        " arguments in that order, or {keyword: array}.",
    )
    targets: str | _Several | None = Field(
        default="y",
        description="Name of the array that is to be predicted, without the split; of several, a list or {name: array};"
        " null where there is none.",
    )
    bounds: Bounds | None = Field(
        default=None,
        description="Smallest and largest legal value of the first input, floats, needed to attack them; images have"
        " their own.",
    )

    def load(self, ctx: SourceContext) -> Data:
        """The splits; one that has no arrays is carved from another."""
        from autoprune.toolkit.splits import Samples, number_of_classes, three_splits
        from autoprune_sources._npz import read_arrays

        arrays = read_arrays(existing(self.path, ctx), inputs=self.inputs, targets=self.targets)
        found = {
            split: Samples(targets, inputs.__getitem__, length=len(inputs))
            for split, (inputs, targets) in arrays.items()
        }
        first = arrays["train"][0].first
        return Data(
            **three_splits(found, **self._carving),
            classes=number_of_classes(found),
            normalization=None if self.normalize is None else self.normalize.of_samples(first),
            bounds=checked_bounds(self.bounds, first),
        )
