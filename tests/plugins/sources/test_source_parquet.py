from __future__ import annotations

import io
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from autoprune import DataError
from autoprune.plugin import Normalization
from autoprune_sources._images import LazyImages
from autoprune_sources.parquet import Parquet


def encoded(pixels, kind="PNG"):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(content := io.BytesIO(), kind)
    return content.getvalue()


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def write(ctx, random):
    """Write a split of random 4x4 images, and give the images."""

    def write(name, count, *, shape=(4, 4, 3), labels=None, image="image", label="label", **columns):
        pixels = random.integers(0, 256, (count, *shape), dtype=np.uint8)
        labels = [i % 3 for i in range(count)] if labels is None else labels
        cells = [{"bytes": encoded(p), "path": f"{i}.png"} for i, p in enumerate(pixels)]
        table = {image: cells, label: labels, **columns}
        pq.write_table(pa.table(table), ctx.folder / f"{name}.parquet")
        return pixels

    return write


def load(ctx, **options):
    return Parquet.model_validate({"path": ".", **options}).load(ctx)


def everything(split):
    batch, targets = split.fetch(torch.arange(len(split)))
    images = batch.first
    return images, targets


def test_images_and_labels_are_those_of_the_file(ctx, write, contents, check_distinct):
    train, test = write("train", 20), write("test", 6)
    data = load(ctx)
    check_distinct(data, 26)

    def expected(pixels):
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255
        return Counter((image.numpy().tobytes(), i % 3) for i, image in enumerate(images))

    assert contents(data.test) == expected(test)
    assert contents(data.train) + contents(data.validation) == expected(train)
    assert [len(s) for s in (data.train, data.validation)] == [18, 2]
    assert (data.classes, data.bounds, data.normalization) == (3, (0.0, 1.0), None)


def test_validation_and_shards_are_read_where_they_are(ctx, write):
    write("train-00000-of-00002", 5)
    write("train-00001-of-00002", 6)
    write("valid", 4)
    write("test", 3)
    data = load(ctx)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [11, 4, 3]


def test_a_lone_training_file_is_carved(ctx, write, check_distinct):
    write("train", 30)
    data = load(ctx, validation=6, test=0.3)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [15, 6, 9]
    check_distinct(data, 30)


def test_grey_images_have_one_channel_and_may_be_asked_for_three(ctx, write):
    pixels = write("train", 20, shape=(4, 4))
    data = load(ctx, normalize={"mean": [0.5], "std": [0.25]})
    assert everything(data.train)[0].shape[1:] == (1, 4, 4)
    assert data.normalization == Normalization((0.5,), (0.25,))
    colour = load(ctx, channels=3)
    images, _ = everything(colour.train)
    assert images.shape[1:] == (3, 4, 4)
    assert (images == images[:, :1]).all()
    assert {i.numpy().tobytes() for i in images[:, 0]} <= {(p / np.float32(255)).tobytes() for p in pixels}


def test_a_few_grey_images_among_coloured_ones_become_coloured(ctx, write, random):
    write("test", 3)
    cells = [encoded(random.integers(0, 256, (4, 4) if i < 2 else (4, 4, 3), dtype=np.uint8)) for i in range(20)]
    pq.write_table(pa.table({"img": cells, "label": [i % 2 for i in range(20)]}), ctx.folder / "train.parquet")
    (ctx.folder / "test.parquet").unlink()
    assert everything(load(ctx).train)[0].shape[1:] == (3, 4, 4)


def test_size_scales_and_crops_the_middle(ctx):
    # Left third red, middle third green, right third blue: the middle square is all green.
    pixels = np.zeros((8, 24, 3), dtype=np.uint8)
    for third in range(3):
        pixels[:, 8 * third : 8 * third + 8, third] = 255
    table = pa.table({"image": [encoded(pixels)] * 10, "label": [0, 1] * 5})
    pq.write_table(table, ctx.folder / "train.parquet")
    images, _ = everything(load(ctx, size=4).train)
    assert images.shape[1:] == (3, 4, 4)
    # The outermost columns blend a little with what was cropped away, as scaling first and cropping then does.
    assert torch.equal(images[0, :, :, 1:3], torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1).expand(3, 4, 2))
    assert images[0, 1].min() > 0.8


def test_an_image_of_another_size_is_told(ctx, random):
    sizes = [(4, 4)] * 9 + [(5, 4)]
    cells = [{"bytes": encoded(random.integers(0, 256, s, dtype=np.uint8)), "path": f"{i}.png"} for i, s in
             enumerate(sizes)]  # fmt: skip
    pq.write_table(pa.table({"image": cells, "label": [0, 1] * 5}), ctx.folder / "train.parquet")
    data = load(ctx)
    with pytest.raises(DataError, match=r"row 9 \(9\.png\) is 5x4, others are 4x4; bring them to one size with `size`"):
        for name in ("train", "validation", "test"):
            everything(data.split(name))
    assert everything(load(ctx, size=4).train)[0].shape[1:] == (1, 4, 4)


def test_images_are_decoded_once_and_only_when_fetched(ctx, write, monkeypatch):
    write("train", 100)
    decoded = []
    decode = LazyImages._decode
    monkeypatch.setattr(LazyImages, "_decode", lambda self, index: decoded.append(index) or decode(self, index))
    data = load(ctx)
    assert decoded == []
    first, _ = data.train.fetch(torch.arange(5))
    again, _ = data.train.fetch(torch.arange(7))
    assert len(decoded) == len(set(decoded)) == 7
    assert torch.equal(first.first, again.first[:5])
    first.first.zero_()
    assert torch.equal(data.train.fetch(torch.arange(5))[0].first, again.first[:5]), "what was kept is not handed out"


def test_what_was_kept_is_bounded(ctx, write, monkeypatch):
    monkeypatch.setattr("autoprune_sources._images._KEPT_BYTES", 3 * 48)
    write("train", 20)
    decoded = []
    decode = LazyImages._decode
    monkeypatch.setattr(LazyImages, "_decode", lambda self, index: decoded.append(index) or decode(self, index))
    split = load(ctx).train
    images, _ = everything(split)
    assert torch.equal(everything(split)[0], images)
    assert len(decoded) == len(split) + len(split) - 3


_DECODING = """
import io
import numpy as np
import torch
from PIL import Image
from autoprune.study.native_memory import held
from autoprune_sources._images import Form, LazyImages

class Same:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file, "png")
    def __len__(self): return 10_000
    def read(self, index): return self.file.getvalue()
    def name(self, index): return str(index)

images = LazyImages(Same(), Form(channels=3, height=32, width=32, resize=False))
def fetch(index): return images(index).float() / 255
fetch(torch.arange(256))
before = held("VmRSS")
for chunk in torch.arange(10_000).split(256):
    fetch(chunk)
print((held("VmRSS") - before) / (10_000 * 3 * 32 * 32))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
def test_decoding_takes_little_more_memory_than_the_images():
    told = subprocess.run([sys.executable, "-c", _DECODING], capture_output=True, text=True, check=True).stdout
    assert float(told) < 3


def test_columns_may_be_named(ctx, write, random):
    other = [encoded(random.integers(0, 256, (2, 2), dtype=np.uint8)) for _ in range(12)]
    write("train", 12, coarse=[0] * 12, mask=other)
    with pytest.raises(DataError, match=r"columns image, mask all hold images; name one with `image`"):
        load(ctx)
    assert everything(load(ctx, image="mask", label="coarse").train)[0].shape[1:] == (1, 2, 2)
    with pytest.raises(DataError, match=r"train\.parquet: no column 'mak'; did you mean 'mask'\?"):
        load(ctx, image="mak")
    with pytest.raises(DataError, match=r"column 'label' holds int64, not encoded images"):
        load(ctx, image="label")
    with pytest.raises(DataError, match=r"column 'mask' holds binary; classes are integers"):
        load(ctx, image="image", label="mask")


def test_several_integer_columns_of_unusual_names_are_told(ctx, write):
    write("train", 12, label="breed", age=[1] * 12)
    with pytest.raises(DataError, match="columns breed, age all hold integers; name the classes' with `label`"):
        load(ctx)
    assert load(ctx, label="breed").classes == 3


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"sentence": ["a"], "label": [1]},
            r"column 'sentence' holds text, not images; `use: text` reads it\. Columns: ",
        ),
        ({"x": [0.5], "label": [1]}, r"no column holds encoded images\. Columns: x \(double\), label \(int64\)"),
        ({"image": [b"x"], "label": ["cat"]}, r"no column holds integer classes\. Columns: image \(binary\), label"),
        ({"image": [b"x", b"y"], "label": [1, None]}, "column 'label' lacks 1 classes"),
        ({"image": [b"x", b"y"], "label": [0, -1]}, "column 'label': class -1 at sample 1"),
        ({"image": [b"text"], "label": [1]}, "row 0 is not an image that pillow reads"),
        (
            {"image": [{"bytes": None, "path": "a.png"}], "label": [1]},
            r"no column holds encoded images\. Columns: image",
        ),
        ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}, "no rows"),
    ],
)
def test_columns_that_hold_something_else_are_told(ctx, columns, message):
    pq.write_table(pa.table(columns), ctx.folder / "train.parquet")
    with pytest.raises(DataError, match=rf"train\.parquet: {message}"):
        load(ctx)


def test_images_outside_the_file_are_told(ctx):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": None, "path": "a.png"}], kind)
    pq.write_table(pa.table({"image": cells, "label": [0]}), ctx.folder / "train.parquet")
    with pytest.raises(DataError, match=r"row 0 \(a\.png\) holds a path and no bytes"):
        load(ctx)


def test_16_bit_images_are_refused(ctx):
    cell = encoded(Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)))
    pq.write_table(pa.table({"image": [cell], "label": [0]}), ctx.folder / "train.parquet")
    with pytest.raises(DataError, match=r"row 0 has pixels of mode I;16; 8 bits a channel are read"):
        load(ctx)


def test_a_truncated_image_is_told(ctx, random):
    cells = [encoded(random.integers(0, 256, (32, 32, 3), dtype=np.uint8), "JPEG") for _ in range(10)]
    cells[3] = cells[3][: len(cells[3]) * 3 // 4]
    pq.write_table(pa.table({"image": cells, "label": [0, 1] * 5}), ctx.folder / "train.parquet")
    data = load(ctx)
    with pytest.raises(DataError, match=r"row 3 is damaged"):
        for name in ("train", "validation", "test"):
            everything(data.split(name))


def test_missing_files_are_told(ctx, write):
    write("tran", 3)
    with pytest.raises(DataError, match=r"spec: no train\.parquet or train-\*\.parquet in this folder; there: tran"):
        load(ctx)
    with pytest.raises(DataError, match=r"there is no 'cifr' in .*spec; known: tran\.parquet"):
        load(ctx, path="cifr/10")
    (ctx.folder / "train.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"train\.parquet: cannot be read as parquet"):
        load(ctx)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": {"mean": [0.5, 0.5], "std": [0.2]}}, "mean has 2 values and std has 1"),
        ({"normalize": {"mean": [0.5], "std": [0.0]}}, "greater than 0"),
        ({"validation": 1.5}, "a fraction below 1, or a whole number of samples"),
        ({"validation": 0}, "greater than 0"),
        ({"channels": 2}, "1 or 3"),
    ],
)
def test_impossible_options_are_refused_with_the_spec(options, message):
    with pytest.raises(ValidationError, match=message):
        Parquet.model_validate({"path": ".", **options})


@pytest.mark.slow
def test_cifar_10(ctx, shared):
    data = load(ctx, path=str(shared / "data/cifar10"), validation=5000)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [45_000, 5_000, 10_000]
    assert data.classes == 10
    batch, targets = data.test.fetch(torch.arange(300))
    images = batch.first
    assert images.shape == (300, 3, 32, 32)
    assert targets.bincount(minlength=10).float().std() < 2
    # The same images as pillow reads them from the rows, and with the rows' labels.
    rows = pq.read_table(shared / "data/cifar10/test.parquet")
    place = data.test.read.order[:300]
    for image, target, row in zip(images, targets, rows.take(place.numpy()).to_pylist(), strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB"))
        assert np.array_equal((image * 255).round().permute(1, 2, 0).numpy(), pixels)
        assert target == row["label"]
    # Validation and training rows are different rows.
    train, validation = set(data.train.read.order.tolist()), set(data.validation.read.order.tolist())
    assert train.isdisjoint(validation)
    assert train | validation == set(range(50_000))


def test_mnist(ctx, shared):
    data = load(ctx, path=str(shared / "data/mnist"))
    batch, _ = data.train.fetch(torch.arange(10))
    images = batch.first
    assert images.shape == (10, 1, 28, 28)
    assert data.classes == 10


def test_sentences_are_refused_by_name(ctx, shared):
    with pytest.raises(DataError, match=r"sst2/train\.parquet: column 'sentence' holds text"):
        load(ctx, path=str(shared / "data/sst2"))
