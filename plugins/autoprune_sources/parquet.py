"""Images in parquet files, as the Hugging Face hub lays them out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from autoprune.plugin import Data, SourceContext
from autoprune.toolkit.files import existing
from autoprune_sources._options import NormalizedSource


class Parquet(NormalizedSource):
    """A folder of train, validation and test parquet files with an image column and an integer label column.

    A split is ``train.parquet``, or shards such as ``train-00000-of-00002.parquet``; ``valid`` and ``val`` are read as
    validation. The image column holds encoded files (``{bytes, path}`` or plain bytes), decoded when first used.
    """

    name = "parquet"

    path: Path = Field(description="Folder of the parquet files.")
    image: str | None = Field(default=None, description="Image column; found by its type if left out.")
    label: str | None = Field(default=None, description="Integer label column; found by type and name if left out.")
    size: int | None = Field(default=None, ge=1, description="Scale and centre-crop to so many pixels, square.")
    channels: Literal[1, 3] | None = Field(default=None, description="1 grey, 3 RGB; as the images are if left out.")

    def load(self, ctx: SourceContext) -> Data:
        """The splits; one that has no file is carved from another."""
        from autoprune.toolkit.splits import Samples, number_of_classes, three_splits
        from autoprune_sources._images import Form, LazyImages
        from autoprune_sources._parquet import read_images, shards_of

        read = {
            split: read_images(files, image=self.image, label=self.label)
            for split, files in shards_of(existing(self.path, ctx)).items()
        }
        form = Form.of(read["train"][0], channels=self.channels, size=self.size)
        found = {split: Samples(targets, LazyImages(images, form)) for split, (images, targets) in read.items()}
        return Data(
            **three_splits(found, **self._carving),
            classes=number_of_classes(found),
            normalization=None if self.normalize is None else self.normalize.of(form.channels),
            bounds=(0.0, 1.0),
        )
