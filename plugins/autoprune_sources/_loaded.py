"""What sources share whose samples come as Python objects: tensors, datasets, loaders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from autoprune.plugin import Data, DataSource
from autoprune_sources._options import Amount, Bounds, Normalize


class LoadedSource(DataSource):
    """A source whose splits are torch ``Dataset``s, ``DataLoader``s, tuples of tensors or iterables of batches."""

    inputs: dict[str, str] | tuple[str, ...] = Field(
        default=(),
        description="Of batches by name those that the model takes, or {keyword: name}; all but the targets if left"
        " out.",
    )
    targets: str | tuple[str, ...] = Field(
        default=(),
        description="Of batches by name what is to be predicted, several by a list; labels, label, targets, target or y"
        " if left out.",
    )
    normalize: Normalize | None = Field(
        default=None,
        description="Mean and standard deviation per channel, applied in front of the network; leave it out where the"
        " data is normalised already.",
    )
    bounds: Bounds | None = Field(
        default=None, description="Smallest and largest legal value of the first input, needed to attack it."
    )
    validation: Amount = Field(
        default=0.1,
        description="Fraction (below 1) or number of training samples for validation, if there is no such split.",
    )
    test: Amount = Field(
        default=0.2, description="Fraction (below 1) or number of training samples for test, if there is no such split."
    )

    def of_splits(self, found: Mapping[str, Any]) -> Data:
        """The data of those splits; what is not among them is carved from the training split.

        Raises:
            DataError: They are no splits; says what came.
        """
        import torch

        from autoprune.toolkit.loading import Columns, three_loaded

        targets = (self.targets,) if isinstance(self.targets, str) else self.targets
        columns = Columns(self.inputs, targets)
        splits = three_loaded(found, columns=columns, validation=self.validation, test=self.test)
        inputs, _ = splits["train"].fetch(torch.arange(1))
        return Data(
            **splits,
            classes=None,
            normalization=None if self.normalize is None else self.normalize.of_samples(inputs.first),
            bounds=self.bounds,
        )
