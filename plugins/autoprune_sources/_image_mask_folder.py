"""Image files, and the mask files that belong to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoprune import DataError
from autoprune.plugin import SplitName
from autoprune.toolkit.files import listed, near
from autoprune.toolkit.splits import SPLIT_NAMES
from autoprune_sources._image_folder import SUFFIXES, ImageFiles
from autoprune_sources._images import UNKNOWN

_NOWHERE = -100
"""What tasks leave out, unless told otherwise."""


@dataclass(frozen=True)
class Pairs:
    """The images of one split, and their masks in the same order."""

    images: ImageFiles
    masks: ImageFiles


def find_pairs(folder: Path, *, images: str, masks: str) -> dict[SplitName, Pairs]:
    """Images and masks of each split that has folders of its own; ``train`` is always there.

    Args:
        folder: Holds ``images/train`` and ``masks/train``, or ``train/images`` and ``train/masks``, or no splits:
            ``images`` and ``masks``.
        images: What the folders of images are called.
        masks: What those of masks are called.

    Raises:
        DataError: There are no images, an image has no mask, or the other way round.
    """
    for inner in (True, False):
        places = _split_places(folder, images, masks, inner=inner)
        if "train" in places:
            return {split: _paired(*place) for split, place in places.items()}
    return {"train": _paired(folder / images, folder / masks)}


def class_of_value(values: Sequence[int] | None, *, ignored: int | None) -> NDArray[np.int64]:
    """The class of each value that a pixel of a mask may have, (256,).

    Args:
        values: Those of the classes, in their order; all in order if None.
        ignored: The one of pixels that count nowhere.
    """
    classes = np.arange(256)
    if values is not None:
        classes[:] = UNKNOWN
        classes[list(values)] = range(len(values))
    if ignored is not None:
        classes[ignored] = _NOWHERE
    return classes


def _split_places(folder: Path, images: str, masks: str, *, inner: bool) -> dict[SplitName, tuple[Path, Path]]:
    """The folders of each split: ``images/train`` if inner, else ``train/images``."""
    found: dict[SplitName, tuple[Path, Path]] = {}
    for split, aliases in SPLIT_NAMES.items():
        for alias in reversed(aliases):
            place, other = (folder / name / alias if inner else folder / alias / name for name in (images, masks))
            if place.is_dir():
                found[split] = place, other
    return found


def _paired(images: Path, masks: Path) -> Pairs:
    of_images, of_masks = _by_stem(images, SUFFIXES), _by_stem(masks, {".png"})
    for some, others, what, place in ((of_images, of_masks, "mask", masks), (of_masks, of_images, "image", images)):
        if alone := sorted(some.keys() - others.keys()):
            more = f", nor have {len(alone) - 1} more" if len(alone) > 1 else ""
            left = sorted(others.keys() - some.keys())
            there = f"; alone there: {listed(left, most=3)}" if left else ""
            raise DataError(f"{some[alone[0]]} has no {what} of that name in {place}{more}{there}")
    stems = sorted(of_images)
    return Pairs(ImageFiles([of_images[stem] for stem in stems]), ImageFiles([of_masks[stem] for stem in stems]))


def _by_stem(folder: Path, suffixes: Iterable[str]) -> Mapping[str, Path]:
    """Files below a folder by their path in it without the ending."""
    if not folder.is_dir():
        there = sorted(path.name for path in folder.parent.iterdir()) if folder.parent.is_dir() else []
        raise DataError(f"there is no folder {folder}{near(folder.name, there)}")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in suffixes or not path.is_file():
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise DataError(f"{path} and {found[stem].name} have one name; which of them counts?")
        found[stem] = path
    if not found:
        raise DataError(f"{folder}: no file in it that ends in {listed(sorted(suffixes))}")
    return found
