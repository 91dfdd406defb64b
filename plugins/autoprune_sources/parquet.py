"""Images in parquet files, as the Hugging Face hub lays them out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from autoprune import DataError
from autoprune.plugin import Data, SourceContext
from autoprune_sources._files import existing, listed
from autoprune_sources._options import SplitSource


class Parquet(SplitSource):
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
        """The splits; one that has no file is carved from the training split."""
        from autoprune_sources._images import Form, LazyImages
        from autoprune_sources._parquet import read_shards
        from autoprune_sources._splits import SPLIT_NAMES, Samples, number_of_classes, three_splits

        folder = existing(self.path, ctx)
        shards = {split: _shards(folder, names) for split, names in SPLIT_NAMES.items()}
        if not shards["train"]:
            there = listed(sorted(p.name for p in folder.iterdir())) if folder.is_dir() else "it is a file"
            raise DataError(f"{folder}: no train.parquet or train-*.parquet in this folder; there: {there}")
        read = {
            split: read_shards(files, image=self.image, label=self.label) for split, files in shards.items() if files
        }
        form = Form.of(read["train"][0], channels=self.channels, size=self.size)
        found = {split: Samples(targets, LazyImages(images, form)) for split, (images, targets) in read.items()}
        return Data(
            **three_splits(found, validation=self.validation, test=self.test),
            classes=number_of_classes(found),
            normalization=None if self.normalize is None else self.normalize.of(form.channels),
            bounds=(0.0, 1.0),
        )


def _shards(folder: Path, names: tuple[str, ...]) -> list[Path]:
    for name in names:
        if files := [*folder.glob(f"{name}.parquet"), *sorted(folder.glob(f"{name}-*.parquet"))]:
            return files
    return []
