"""Images that are decoded when they are first fetched, and then kept."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from autoprune import DataError

_KEPT_BYTES = 2 * 2**30
_PROBES = 16
_GREY = {"1", "L", "LA"}
_COLOUR = {"P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"}


class Files(Protocol):
    """Encoded images."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def read(self, index: int) -> bytes:
        """One encoded image."""
        ...

    def name(self, index: int) -> str:
        """What to call it in an error."""
        ...


@dataclass(frozen=True)
class Form:
    """What every image of a data set is brought to."""

    channels: int
    """1 (grey) or 3 (RGB)."""
    height: int
    width: int
    resize: bool
    """Scale and crop; where false, another size is an error."""

    @classmethod
    def of(cls, files: Files, *, channels: int | None, size: int | None) -> Form:
        """Find out from a few images: RGB unless all of them are grey, and the size of the first one.

        Args:
            files: The training images.
            channels: Overrides what was found.
            size: Height and width to scale and crop to; None keeps the size.
        """
        probes = [_open(files, i) for i in np.linspace(0, len(files) - 1, num=_PROBES, dtype=int).tolist()]
        found = 1 if all(probe.mode in _GREY for probe in probes) else 3
        width, height = (size, size) if size else probes[0].size
        return cls(channels or found, height, width, resize=size is not None)


@dataclass(frozen=True)
class LazyImages:
    """Indices to images, (B, C, H, W) of ``uint8``. Keeps what it decoded, up to 2 GiB."""

    files: Files
    form: Form
    _kept: dict[int, NDArray[np.uint8]] = field(default_factory=dict, repr=False)

    def __call__(self, index: Tensor) -> Tensor:
        """The images at those indices."""
        shape = (0, self.form.channels, self.form.height, self.form.width)
        images = [self._image(i) for i in index.tolist()]
        return torch.from_numpy(np.stack(images)) if images else torch.empty(shape, dtype=torch.uint8)

    def _image(self, index: int) -> NDArray[np.uint8]:
        image = self._kept.get(index)
        if image is None:
            image = self._decode(index)
            if (len(self._kept) + 1) * image.nbytes <= _KEPT_BYTES:
                self._kept[index] = image
        return image

    def _decode(self, index: int) -> NDArray[np.uint8]:
        form = self.form
        image = _open(self.files, index)
        if not form.resize and image.size != (form.width, form.height):
            raise DataError(
                f"{self.files.name(index)} is {image.height}x{image.width}, others are {form.height}x{form.width}; "
                "bring them to one size with `size`"
            )
        try:
            image = image.convert("L" if form.channels == 1 else "RGB")
        except (OSError, ValueError) as error:  # pillow reads the pixels only now
            raise DataError(f"{self.files.name(index)} is damaged: {error}") from error
        if form.resize and image.size != (form.width, form.height):
            image = ImageOps.fit(image, (form.width, form.height), Image.Resampling.BILINEAR)
        pixels = np.asarray(image, dtype=np.uint8).reshape(form.height, form.width, form.channels)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _open(files: Files, index: int) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(files.read(index)))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{files.name(index)} is not an image that pillow reads: {error}") from error
    if image.mode not in _GREY | _COLOUR:
        raise DataError(f"{files.name(index)} has pixels of mode {image.mode}; 8 bits a channel are read")
    return image
