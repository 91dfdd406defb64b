"""Images, and a mask of classes for each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from autoprune.plugin import Data, SourceContext
from autoprune.toolkit.files import existing
from autoprune_sources._options import NormalizedSource

_Value = Annotated[int, Field(ge=0, le=255)]


class ImageMaskFolder(NormalizedSource):
    """Images and masks of the same names in two folders, for segmentation: ``images/a.jpg`` and ``masks/a.png``.

    Either ``images/train/…`` with ``images/validation`` (or ``val``) and ``images/test`` beside it and masks alike, or
    ``train/images/…`` and ``train/masks/…``, or no splits. A mask is a PNG file whose pixels are numbers of classes,
    grey values (mode L) or those of a palette (mode P). Both are decoded when first used. Targets are int64 (N, H, W).
    """

    name = "image-mask-folder"

    path: Path = Field(description="Folder that holds the folders of images and masks, or train/, validation/, test/.")
    images: str = Field(default="images", min_length=1, description="What folders of images are called.")
    masks: str = Field(default="masks", min_length=1, description="What folders of masks are called.")
    values: tuple[_Value, ...] | None = Field(
        default=None,
        min_length=1,
        description="The masks' value of each class, such as [0, 255]; 0, 1, 2, … if left out.",
    )
    ignore_index: _Value | None = Field(
        default=None,
        description="The masks' value, often 255, of pixels that count nowhere: it becomes -100, the tasks' own.",
    )
    size: int | None = Field(
        default=None, ge=1, description="Scale and centre-crop to so many pixels, square; masks without mixing values."
    )
    channels: Literal[1, 3] | None = Field(default=None, description="1 grey, 3 RGB; as the images are if left out.")

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        values = [*(self.values or ()), *(() if self.ignore_index is None else (self.ignore_index,))]
        if self.values is not None and len(set(values)) < len(values):
            raise ValueError("values: each stands for one class, or for none")
        return self

    def load(self, ctx: SourceContext) -> Data:
        """The splits; one that has no folder is carved from another."""
        import torch

        from autoprune.toolkit.splits import Samples, three_splits
        from autoprune_sources._image_mask_folder import class_of_value, find_pairs
        from autoprune_sources._images import Form, LazyImages, LazyMasks

        pairs = find_pairs(existing(self.path, ctx), images=self.images, masks=self.masks)
        form = Form.of(pairs["train"].images, channels=self.channels, size=self.size)
        classes = class_of_value(self.values, ignored=self.ignore_index)
        found = {}
        for split, pair in pairs.items():
            masks = LazyMasks(pair.masks, pair.images, form, classes)
            count = len(pair.images)
            masks(torch.tensor([0, count // 2, count - 1]))  # what is wrong with masks is told now
            found[split] = Samples(masks, LazyImages(pair.images, form), length=count)
        return Data(
            **three_splits(found, **self._carving),
            classes=None,
            normalization=None if self.normalize is None else self.normalize.of(form.channels),
            bounds=(0.0, 1.0),
        )
