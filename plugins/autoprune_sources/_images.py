"""Images that are decoded when they are first fetched, and then kept."""

from __future__ import annotations

import io
import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from autoprune import DataError

UNKNOWN = -1
"""The class of a value that stands for none."""

_KEPT_BYTES = 2 * 2**30
_PROBES = 16
_GREY = {"1", "L", "LA"}
_INDICES = {"1", "L", "P"}
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""What Pillow knows besides is no data set, and some of it runs other programs (EPS)."""
_MOST_PIXELS = 50_000_000
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


class _Lazy(ABC):
    """Indices to pictures, (B, …) of ``uint8``. Keeps what it decoded, up to 2 GiB.

    In one block of memory: small ones, each kept among the large ones that are soon free again, would leave holes of
    several times their size in the heap.
    """

    def __init__(self, files: Files, shape: tuple[int, ...]) -> None:
        self._files = files
        self._kept = np.empty((min(len(files), _KEPT_BYTES // math.prod(shape)), *shape), dtype=np.uint8)
        self._places: dict[int, int] = {}
        """Where in it each picture is that was decoded."""

    def __call__(self, index: Tensor) -> Tensor:
        """The pictures at those indices."""
        pictures = np.empty((len(index), *self._kept.shape[1:]), dtype=np.uint8)
        for row, wanted in enumerate(index.tolist()):
            pictures[row] = self._picture(wanted)
        return torch.from_numpy(pictures)

    def _picture(self, index: int) -> NDArray[np.uint8]:
        if index in self._places:
            kept: NDArray[np.uint8] = self._kept[self._places[index]]
            return kept
        picture = self._decode(index)
        if len(self._places) < len(self._kept):
            place = self._places[index] = len(self._places)
            self._kept[place] = picture
        return picture

    @abstractmethod
    def _decode(self, index: int) -> NDArray[np.uint8]:
        """One picture."""


class LazyImages(_Lazy):
    """Indices to images, (B, C, H, W) of ``uint8``."""

    def __init__(self, files: Files, form: Form) -> None:
        """Nothing is decoded yet.

        Args:
            files: Encoded images.
            form: What they are brought to.
        """
        super().__init__(files, (form.channels, form.height, form.width))
        self._form = form

    def _decode(self, index: int) -> NDArray[np.uint8]:
        form = self._form
        image = _open(self._files, index)
        _check_size(image, self._files.name(index), form)
        image = _converted(image, self._files.name(index), "L" if form.channels == 1 else "RGB")
        pixels = np.asarray(_fitted(image, form, Image.Resampling.BILINEAR), dtype=np.uint8)
        return pixels.reshape(form.height, form.width, form.channels).transpose(2, 0, 1)


class LazyMasks(_Lazy):
    """Indices to the classes of pixels, (B, H, W) of int64; scaled without mixing them."""

    def __init__(self, files: Files, images: Files, form: Form, classes: NDArray[np.int64]) -> None:
        """Nothing is decoded yet.

        Args:
            files: Encoded masks, of mode L, P or 1.
            images: The images that they belong to.
            form: What both are brought to.
            classes: The class of each value that a pixel may have, (256,); `UNKNOWN` of one that it may not.
        """
        super().__init__(files, (form.height, form.width))
        self._images = images
        self._form = form
        self._classes = classes

    def __call__(self, index: Tensor) -> Tensor:
        """The classes at those indices."""
        return torch.from_numpy(self._classes[super().__call__(index).numpy()])

    def _decode(self, index: int) -> NDArray[np.uint8]:
        name, form = self._files.name(index), self._form
        mask, image = _open(self._files, index), _open(self._images, index)
        if mask.mode not in _INDICES:
            raise DataError(
                f"{name} has pixels of mode {mask.mode}; a mask holds the number of each pixel's class, as grey values"
                " (mode L) or with a palette (mode P)"
            )
        if mask.size != image.size:
            raise DataError(
                f"{name} is {mask.height}x{mask.width}, its image {self._images.name(index)} is"
                f" {image.height}x{image.width}"
            )
        _check_size(mask, name, form)
        # Of a palette it is the numbers that are taken, not the colours.
        values = np.asarray(_converted(mask, name, mask.mode)).astype(np.uint8)
        if (unknown := values[self._classes[values] == UNKNOWN]).size:
            raise DataError(f"{name} holds pixels of value {unknown[0]}, which is none of the option `values`")
        return np.asarray(_fitted(Image.fromarray(values), form, Image.Resampling.NEAREST))


def _check_size(image: Image.Image, name: str, form: Form) -> None:
    if not form.resize and image.size != (form.width, form.height):
        raise DataError(
            f"{name} is {image.height}x{image.width}, others are {form.height}x{form.width}; "
            "bring them to one size with `size`"
        )


def _converted(image: Image.Image, name: str, mode: str) -> Image.Image:
    try:
        return image.convert(mode)
    except Exception as error:  # pillow reads the pixels only now, and raises many kinds of what is wrong with them
        raise DataError(f"{name} is damaged: {' '.join(str(error).split()):.200}") from error


def _fitted(image: Image.Image, form: Form, resampling: Image.Resampling) -> Image.Image:
    if image.size == (form.width, form.height):
        return image
    return ImageOps.fit(image, (form.width, form.height), resampling)


def _open(files: Files, index: int) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, which are told below, and of odd ones
            image = Image.open(io.BytesIO(files.read(index)), formats=_FORMATS)
    except DataError:
        raise
    except Exception as error:  # of many kinds
        raise DataError(
            f"{files.name(index)} is not an image that pillow reads as {', '.join(_FORMATS)}:"
            f" {' '.join(str(error).split()):.200}"
        ) from error
    if (pixels := image.width * image.height) > _MOST_PIXELS:
        most = _MOST_PIXELS // 10**6
        raise DataError(f"{files.name(index)} has {pixels / 1e6:.0f} megapixels, more than {most}; scale it down")
    if image.mode not in _GREY | _COLOUR:
        raise DataError(f"{files.name(index)} has pixels of mode {image.mode}; 8 bits a channel are read")
    return image
