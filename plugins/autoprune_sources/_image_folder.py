"""Image files below class folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from autoprune import DataError
from autoprune.plugin import SplitName
from autoprune.toolkit.files import listed, near, plain_file
from autoprune.toolkit.splits import SPLIT_NAMES, as_classes

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}
"""How files of images end."""
_MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class ImageFiles:
    """The image files of one split."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> bytes:
        """The file's bytes."""
        return plain_file(self.paths[index], most=_MOST_BYTES).read_bytes()

    def name(self, index: int) -> str:
        """The file."""
        return str(self.paths[index])


def find_images(folder: Path) -> dict[SplitName, tuple[ImageFiles, Tensor]]:
    """Image files and classes, (N,), of each split that has a folder of its own; ``train`` is always there.

    Raises:
        DataError: There are no classes, or a class without images, or one that training lacks.
    """
    folders: dict[SplitName, Path] = {"train": folder}
    if _class_folders(folder / "train"):
        folders = {
            split: folder / alias
            for split, aliases in SPLIT_NAMES.items()
            for alias in reversed(aliases)
            if (folder / alias).is_dir()
        }
    classes = {path.name: number for number, path in enumerate(_class_folders(folders["train"]))}
    if not classes:
        raise DataError(f"{folders['train']}: no class folders in it")
    return {split: _labelled(path, classes) for split, path in folders.items()}


def _class_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _labelled(folder: Path, classes: Mapping[str, int]) -> tuple[ImageFiles, Tensor]:
    paths: list[Path] = []
    labels: list[int] = []
    for of_class in _class_folders(folder):
        if of_class.name not in classes:
            raise DataError(f"{of_class}: the training split has no such class{near(of_class.name, classes)}")
        images = sorted(p for p in of_class.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not images:
            raise DataError(f"{of_class}: no image in it; files end in {listed(sorted(SUFFIXES))}")
        paths += images
        labels += [classes[of_class.name]] * len(images)
    if not paths:
        raise DataError(f"{folder}: no class folders in it")
    return ImageFiles(paths), as_classes(labels, where=str(folder))
