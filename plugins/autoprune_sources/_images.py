"""Images that are decoded when they are first fetched, and then kept."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
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


class LazyImages:
    """Indices to images, (B, C, H, W) of ``uint8``. Keeps what it decoded, up to 2 GiB.

    In one block of memory: small ones, each kept among the large ones that are soon free again, would leave holes of
    several times their size in the heap.
    """

    def __init__(self, files: Files, form: Form) -> None:
        """Nothing is decoded yet.

        Args:
            files: Encoded images.
            form: What they are brought to.
        """
        self._files = files
        self._form = form
        shape = (form.channels, form.height, form.width)
        self._kept = np.empty((min(len(files), _KEPT_BYTES // math.prod(shape)), *shape), dtype=np.uint8)
        self._places: dict[int, int] = {}
        """Where in it each image is that was decoded."""

    def __call__(self, index: Tensor) -> Tensor:
        """The images at those indices."""
        images = np.empty((len(index), *self._kept.shape[1:]), dtype=np.uint8)
        for row, wanted in enumerate(index.tolist()):
            images[row] = self._image(wanted)
        return torch.from_numpy(images)

    def _image(self, index: int) -> NDArray[np.uint8]:
        if index in self._places:
            kept: NDArray[np.uint8] = self._kept[self._places[index]]
            return kept
        image = self._decode(index)
        if len(self._places) < len(self._kept):
            place = self._places[index] = len(self._places)
            self._kept[place] = image
        return image

    def _decode(self, index: int) -> NDArray[np.uint8]:
        form = self._form
        image = _open(self._files, index)
        if not form.resize and image.size != (form.width, form.height):
            raise DataError(
                f"{self._files.name(index)} is {image.height}x{image.width}, others are {form.height}x{form.width}; "
                "bring them to one size with `size`"
            )
        try:
            image = image.convert("L" if form.channels == 1 else "RGB")
        except (OSError, ValueError) as error:  # pillow reads the pixels only now
            raise DataError(f"{self._files.name(index)} is damaged: {error}") from error
        if form.resize and image.size != (form.width, form.height):
            image = ImageOps.fit(image, (form.width, form.height), Image.Resampling.BILINEAR)
        pixels = np.asarray(image, dtype=np.uint8).reshape(form.height, form.width, form.channels)
        return pixels.transpose(2, 0, 1)


def _open(files: Files, index: int) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(files.read(index)))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{files.name(index)} is not an image that pillow reads: {error}") from error
    if image.mode not in _GREY | _COLOUR:
        raise DataError(f"{files.name(index)} has pixels of mode {image.mode}; 8 bits a channel are read")
    return image
