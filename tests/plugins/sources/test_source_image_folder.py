from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from autoprune import DataError
from autoprune_sources.image_folder import ImageFolder


@pytest.fixture
def paint(ctx):
    """Write images whose one value tells them apart; each class folder gets its own values."""
    values = iter(range(256))

    def paint(folder, count, suffix="png"):
        (ctx.folder / folder).mkdir(parents=True, exist_ok=True)
        written = [next(values) for _ in range(count)]
        for value in written:
            pixels = np.full((4, 4), value, dtype=np.uint8)
            Image.fromarray(pixels).save(ctx.folder / folder / f"{value}.{suffix}")
        return set(written)

    return paint


def load(ctx, **options):
    return ImageFolder.model_validate({"path": ".", **options}).load(ctx)


def by_class(*splits):
    """The values of the images of each class, over the splits."""
    found = {}
    for split in splits:
        batch, targets = split.fetch(torch.arange(len(split)))
        images = batch.first
        for image, target in zip(images, targets, strict=True):
            found.setdefault(int(target), set()).add(round(float(image.max()) * 255))
    return found


def test_a_folder_of_classes_is_split(ctx, paint, check_distinct):
    dogs, cats = paint("dog", 12), paint("cat/persian", 4) | paint("cat", 4)
    data = load(ctx)
    check_distinct(data, 20)
    assert by_class(data.train, data.validation, data.test) == {0: cats, 1: dogs}
    assert [len(s) for s in (data.train, data.validation, data.test)] == [14, 2, 4]
    assert (data.classes, data.bounds) == (2, (0.0, 1.0))


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_split_folders_are_read_where_they_are(ctx, paint, validation):
    train = paint("train/a", 6), paint("train/b", 5)
    held = paint(f"{validation}/a", 2), paint(f"{validation}/b", 1)
    test = (paint("test/b", 3),)
    paint("train/.hidden", 1)
    (ctx.folder / "train" / "a" / "notes.txt").touch()
    data = load(ctx)
    assert by_class(data.train) == dict(enumerate(train))
    assert by_class(data.validation) == dict(enumerate(held))
    assert by_class(data.test) == {1: test[0]}


def test_a_class_may_be_called_train(ctx, paint):
    trains, cars = paint("train", 10), paint("car", 10)
    data = load(ctx)
    assert by_class(data.train, data.validation, data.test) == {0: cars, 1: trains}


def test_a_split_without_a_folder_is_carved_from_the_training_images(ctx, paint, check_distinct):
    paint("train/a", 20)
    paint("val/a", 3)
    data = load(ctx, test=5)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [15, 3, 5]
    check_distinct(data, 23)


def test_size_channels_and_normalisation(ctx, paint):
    paint("a", 20, "bmp")
    data = load(ctx, size=2, channels=3, normalize={"mean": [0.5] * 3, "std": [0.25] * 3})
    batch, _ = data.train.fetch(torch.arange(2))
    images = batch.first
    assert images.shape == (2, 3, 2, 2)
    assert data.normalization.mean == (0.5, 0.5, 0.5)
    with pytest.raises(DataError, match="normalize gives 3 channels; the data has 1"):
        load(ctx, normalize={"mean": [0.5] * 3, "std": [0.25] * 3})


def test_folders_that_hold_no_classes_are_told(ctx, paint):
    with pytest.raises(DataError, match="spec: no class folders in it"):
        load(ctx)
    (ctx.folder / "cat").mkdir()
    (ctx.folder / "cat" / "notes.txt").touch()
    with pytest.raises(DataError, match=r"cat: no image in it; files end in \.bmp, "):
        load(ctx)
    (ctx.folder / "cat" / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cat/broken\.png is not an image that pillow reads"):
        load(ctx)
    with pytest.raises(DataError, match=r"there is no 'images' in .*spec; known: cat"):
        load(ctx, path="images/train")


def test_a_class_that_training_lacks_is_told(ctx, paint):
    paint("train/horse", 5)
    paint("test/horses", 5)
    with pytest.raises(DataError, match=r"test/horses: the training split has no such class; did you mean 'horse'\?"):
        load(ctx)


def test_an_empty_split_folder_is_told(ctx, paint):
    paint("train/horse", 5)
    (ctx.folder / "test").mkdir()
    with pytest.raises(DataError, match="test: no class folders in it"):
        load(ctx)
