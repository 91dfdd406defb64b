"""Images in one folder per class."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from autoprune.plugin import Data, SourceContext
from autoprune.toolkit.files import existing
from autoprune_sources._options import NormalizedSource


class ImageFolder(NormalizedSource):
    """A folder per class, of image files (torchvision's ImageFolder layout).

    Either ``train/<class>/…`` with ``validation`` (or ``val``) and ``test`` beside it, or ``<class>/…`` alone. Classes
    count from 0 in the order of their names. Images are decoded when first used.
    """

    name = "image-folder"

    path: Path = Field(description="Folder that holds the class folders, or train/, validation/ and test/.")
    size: int | None = Field(default=None, ge=1, description="Scale and centre-crop to so many pixels, square.")
    channels: Literal[1, 3] | None = Field(default=None, description="1 grey, 3 RGB; as the images are if left out.")

    def load(self, ctx: SourceContext) -> Data:
        """The splits; one that has no folder is carved from another."""
        from autoprune.toolkit.splits import Samples, number_of_classes, three_splits
        from autoprune_sources._image_folder import find_images
        from autoprune_sources._images import Form, LazyImages

        images = find_images(existing(self.path, ctx))
        form = Form.of(images["train"][0], channels=self.channels, size=self.size)
        found = {split: Samples(targets, LazyImages(files, form)) for split, (files, targets) in images.items()}
        return Data(
            **three_splits(found, **self._carving),
            classes=number_of_classes(found),
            normalization=None if self.normalize is None else self.normalize.of(form.channels),
            bounds=(0.0, 1.0),
        )
