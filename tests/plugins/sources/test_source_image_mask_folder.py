from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from sklearn.datasets import load_digits

from autoprune import DataError
from autoprune.testing import DataSourceConformance
from autoprune_sources._images import LazyMasks
from autoprune_sources.image_mask_folder import ImageMaskFolder

DIGITS = load_digits()
PALETTE = [channel for value in range(256) for channel in (255 - value, value, 7)]


def drawn(number):
    """A real digit, (8, 8), and the class of each of its pixels: 0 paper, 1 faint, 2 ink."""
    image = (DIGITS.images[number] * 15.9).astype(np.uint8)
    return image, np.digitize(image, [50, 160]).astype(np.uint8)


def save(folder, numbers, *, images="images", masks="masks", mode="L", suffix="png", change=lambda mask: mask):
    for number in numbers:
        image, mask = drawn(number)
        for place, pixels, end in ((images, image, suffix), (masks, change(mask), "png")):
            (folder / place).mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(pixels)
            if place == masks and mode == "P":
                picture = Image.fromarray(pixels, mode="L")
                picture.putpalette(PALETTE)
            picture.save(folder / place / f"{number:03}.{end}")


def load(ctx, **options):
    return ImageMaskFolder.model_validate({"path": ".", **options}).load(ctx)


def everything(split):
    return split.fetch(torch.arange(len(split)))


def numbers_in(split, masks=lambda mask: mask):
    """Which digits are in a split; its masks are theirs."""
    inputs, targets = everything(split)
    assert (inputs.first.dtype, targets.dtype) == (torch.float32, torch.int64)
    known = {drawn(number)[0].tobytes(): number for number in range(60)}
    found = [known[(image * 255).round().byte().numpy().tobytes()] for image in inputs.first]
    for number, mask in zip(found, targets, strict=True):
        assert np.array_equal(mask.numpy(), masks(drawn(number)[1].astype(np.int64)))
    return set(found)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_images_and_masks_are_split(ctx, mode):
    save(ctx.folder, range(40), mode=mode, suffix="bmp")
    data = load(ctx, validation=5, test=0.25)
    parts = [numbers_in(split) for split in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts] == [25, 5, 10]
    assert set().union(*parts) == set(range(40))
    assert (data.classes, data.bounds) == (None, (0, 1))


@pytest.mark.parametrize("layout", ["{what}/{split}", "{split}/{what}"])
@pytest.mark.parametrize("validation", ["val", "validation"])
def test_splits_of_their_own(ctx, layout, validation):
    for split, numbers in (("train", range(20)), (validation, range(20, 26)), ("test", range(26, 30))):
        names = {
            option: layout.format(what=what, split=split) for option, what in (("images", "img"), ("masks", "ann"))
        }
        save(ctx.folder, numbers, **names)
    data = load(ctx, images="img", masks="ann")
    assert [numbers_in(split) for split in (data.train, data.validation, data.test)] == [
        set(range(20)), set(range(20, 26)), set(range(26, 30)),
    ]  # fmt: skip


def test_a_split_without_a_folder_is_carved(ctx):
    for split, numbers in (("train", range(20)), ("test", range(20, 26))):
        save(ctx.folder, numbers, images=f"images/{split}/town", masks=f"masks/{split}/town")
    data = load(ctx, validation=4)
    assert len(data.validation) == 4
    assert numbers_in(data.train) | numbers_in(data.validation) == set(range(20))
    assert numbers_in(data.test) == set(range(20, 26))


def test_values_of_classes_and_of_what_counts_nowhere(ctx):
    save(ctx.folder, range(20), change=lambda mask: np.array([0, 255, 128], np.uint8)[mask])
    data = load(ctx, values=[0, 128], ignore_index=255)
    numbers_in(data.train, masks=lambda mask: np.array([0, -100, 1])[mask])
    data = load(ctx, values=[128, 255, 0])
    numbers_in(data.train, masks=lambda mask: np.array([2, 1, 0])[mask])
    data = load(ctx, ignore_index=128)
    numbers_in(data.train, masks=lambda mask: np.array([0, 255, -100])[mask])
    with pytest.raises(
        DataError, match=r"masks/000\.png holds pixels of value 255, which is none of the option `values`"
    ):
        load(ctx, values=[0, 128])


def test_masks_of_yes_and_no(ctx):
    save(ctx.folder, range(20), change=lambda mask: mask == 2)
    numbers_in(load(ctx).train, masks=lambda mask: mask == 2)


def test_masks_are_scaled_as_their_images_are_and_not_mixed(ctx):
    blocks = np.random.default_rng(0).integers(0, 4, (12, 5, 5), dtype=np.uint8)
    for number, block in enumerate(blocks):
        # Blocks of 3 x 3 pixels, and a border that the square crop takes off.
        mask = np.pad(np.kron(block, np.ones((3, 3), np.uint8)), ((0, 0), (6, 6)), constant_values=9)
        for place, pixels in (("images", mask * 20), ("masks", mask)):
            (ctx.folder / place).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(ctx.folder / place / f"{number}.png")
    inputs, targets = everything(load(ctx, size=5, channels=3).train)
    assert inputs.first.shape == (len(targets), 3, 5, 5)
    for image, target in zip(inputs.first, targets, strict=True):
        # Bilinear scaling mixes an image's neighbours: it is more like its own blocks than like any others.
        distances = np.abs(image[0].numpy() * 255 / 20 - blocks).sum((1, 2))
        assert np.array_equal(blocks[distances.argmin()], target.numpy())
    assert load(ctx).train.fetch(torch.arange(1))[1].shape == (1, 15, 27)


def test_masks_are_decoded_once(ctx, monkeypatch):
    save(ctx.folder, range(20))
    decoded = []
    decode = LazyMasks._decode
    monkeypatch.setattr(LazyMasks, "_decode", lambda self, index: decoded.append(index) or decode(self, index))
    data = load(ctx)
    assert decoded == [0, 10, 19]
    for _ in range(2):
        for split in (data.train, data.validation, data.test):
            everything(split)
    assert sorted(decoded) == list(range(20))


def test_sizes_that_differ_are_told(ctx):
    save(ctx.folder, range(20))
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(ctx.folder / "masks" / "010.png")
    with pytest.raises(DataError, match=r"masks/010\.png is 8x9, its image .*images/010\.png is 8x8"):
        load(ctx)
    with pytest.raises(DataError, match=r"masks/010\.png is 8x9, its image"):
        load(ctx, size=4)
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(ctx.folder / "images" / "010.png")
    with pytest.raises(DataError, match=r"masks/010\.png is 8x9, others are 8x8; bring them to one size with `size`"):
        load(ctx)


def test_masks_of_colours_are_told(ctx):
    save(ctx.folder, range(20))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(ctx.folder / "masks" / "019.png")
    with pytest.raises(
        DataError, match=r"masks/019\.png has pixels of mode RGB; a mask holds the number of each pixel's"
    ):
        load(ctx)
    (ctx.folder / "masks" / "019.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"masks/019\.png is not an image that pillow reads"):
        load(ctx)


def test_images_and_masks_without_each_other_are_told(ctx):
    save(ctx.folder, range(20))
    for number in (3, 4):
        (ctx.folder / "masks" / f"00{number}.png").rename(ctx.folder / "masks" / f"00{number}_mask.png")
    with pytest.raises(DataError) as told:
        load(ctx)
    assert str(told.value) == (
        f"{ctx.folder}/images/003.png has no mask of that name in {ctx.folder}/masks, nor have 1 more;"
        " alone there: 003_mask, 004_mask"
    )
    for number in (3, 4):
        save(ctx.folder, [number])
    with pytest.raises(DataError, match=r"masks/003_mask\.png has no image of that name in .*images, nor have 1 more$"):
        load(ctx)


def test_two_images_of_one_name_are_told(ctx):
    save(ctx.folder, range(20))
    save(ctx.folder, [5], suffix="bmp")
    with pytest.raises(DataError, match=r"images/005\.png and 005\.bmp have one name; which of them counts\?"):
        load(ctx)


def test_folders_that_are_not_there_are_told(ctx):
    with pytest.raises(DataError, match=r"there is no folder .*images"):
        load(ctx)
    save(ctx.folder, range(20), masks="mask")
    with pytest.raises(DataError, match=r"there is no folder .*masks; did you mean 'mask'\?"):
        load(ctx)
    (ctx.folder / "masks").mkdir()
    Image.fromarray(drawn(0)[1]).save(ctx.folder / "masks" / "000.jpg")
    with pytest.raises(DataError, match=r"masks: no file in it that ends in \.png"):
        load(ctx)


@pytest.mark.parametrize(
    "options", [{"values": [0, 0]}, {"values": [0, 256]}, {"values": [0, 255], "ignore_index": 255}, {"images": ""}]
)
def test_impossible_options_are_refused_with_the_spec(options):
    with pytest.raises(ValidationError):
        ImageMaskFolder.model_validate({"path": ".", **options})


class TestTheKit(DataSourceConformance):
    repeated = 0.1

    @pytest.fixture
    def component(self):
        return ImageMaskFolder.model_validate({"path": ".", "normalize": {"mean": [0.3], "std": [0.4]}})

    @pytest.fixture
    def ctx(self, ctx):
        ctx.folder.mkdir(exist_ok=True)
        save(ctx.folder, range(40))
        return ctx
