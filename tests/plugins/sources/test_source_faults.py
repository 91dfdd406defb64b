"""Files that say what cannot be, or unpack to more than there is room for, are one line."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from autoprune import DataError
from autoprune.plugin import SourceContext
from autoprune.toolkit.splits import stratified_order
from autoprune_sources._weights import read_weights
from autoprune_sources.huggingface_data import HuggingFaceData
from autoprune_sources.huggingface_model import HuggingFace
from autoprune_sources.image_folder import ImageFolder
from autoprune_sources.npz import Npz
from autoprune_sources.parquet import Parquet
from autoprune_sources.text import Text


def refused(load, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        load()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1200


def npy(header: str, content: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + content


def zeros(file: Path, name: str, size: int) -> None:
    """An entry of a zip file that is all zeros."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open(name, "w") as entry:
        for _ in range(size >> 20):
            entry.write(bytes(1 << 20))


@pytest.mark.slow
def test_a_small_archive_of_a_large_array(ctx):
    zeros(ctx.folder / "data.npz", "x.npy", 600 << 20)
    assert (ctx.folder / "data.npz").stat().st_size < 4 << 20
    refused(lambda: Npz(path="data.npz").load(ctx), "unpacks to 600 MB or more, over 100 times the file's")
    (ctx.folder / "data.npz").rename(ctx.folder / "weights.pt")
    refused(lambda: read_weights(ctx.folder / "weights.pt"), "unpacks to 600 MB or more")


NPZ: dict[str, bytes] = {
    "more than is there": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000, 9)}\n"),
    "less than nothing": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 9)}\n"),
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n", b"\x80\x04N."),
    "code": npy("__import__('os').system('touch marker')\n"),
    "a long header": npy("{" * 60_000),
    "no header": b"\x93NUMPY\x09\x00",
    "nothing": b"",
    "no version": b"\x93NUMPY",
}


@pytest.mark.parametrize("name", NPZ)
def test_arrays_are_what_their_header_says(name, ctx, monkeypatch):
    monkeypatch.chdir(ctx.folder)
    with zipfile.ZipFile(ctx.folder / "data.npz", "w") as archive:
        archive.writestr("x.npy", NPZ[name])
        archive.writestr("y.npy", NPZ[name])
    refused(lambda: Npz(path="data.npz").load(ctx), "array 'x' cannot be read|is no kind of input|is no array")
    assert not Path("marker").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), npy("{}"), b"x" * 99])
def test_other_files_are_no_archives_of_arrays(content, ctx):
    (ctx.folder / "data.npz").write_bytes(content)
    refused(lambda: Npz(path="data.npz").load(ctx), "cannot be read as .npz|holds a single array|no array")


def folder_of(ctx: SourceContext, content: bytes, *, count: int = 1) -> ImageFolder:
    for label in ("one", "two"):
        (ctx.folder / "images" / label).mkdir(parents=True)
        for number in range(count):
            (ctx.folder / "images" / label / f"{number}.png").write_bytes(content)
    return ImageFolder(path="images")


def png(width: int, height: int) -> bytes:
    """An image of that size, without its pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(13_000, 13_000), "has 169 megapixels, more than 50"),
        (png(60_000, 60_000), "is not an image that pillow reads"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image that pillow reads as PNG, JPEG"),
        (b"GIF89a", "is not an image"),
        (b"", "is not an image"),
    ],
)
def test_images_are_of_real_formats_and_sizes(content, message, ctx):
    refused(lambda: folder_of(ctx, content).load(ctx), message)


def test_eps_is_no_image_though_pillow_knows_it(ctx):
    """It would hand the file to another program."""
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "EPS")
    assert Image.open(stream).format == "EPS"
    refused(lambda: folder_of(ctx, stream.getvalue()).load(ctx), "is not an image that pillow reads as")


def test_a_damaged_image_is_told_when_it_is_read(ctx):
    stream = io.BytesIO()
    Image.effect_noise((40, 40), 90).save(stream, "PNG")
    source = folder_of(ctx, stream.getvalue()[:-300], count=8)
    data = source.load(ctx)
    refused(lambda: data.train.fetch(torch.arange(1)), "is damaged: ")


@pytest.mark.slow
def test_one_value_many_times(ctx):
    """Parquet keeps equal values once: 4 GB in some kilobytes."""
    (ctx.folder / "p").mkdir()
    value = pa.DictionaryArray.from_arrays(pa.array(np.zeros(200_000, np.int32)), pa.array([bytes(20_000)]))
    table = pa.table({"image": value, "label": pa.array(np.zeros(200_000, np.int64))})
    schema = pa.schema([("image", pa.dictionary(pa.int32(), pa.binary())), ("label", pa.int64())])
    pq.write_table(table.cast(schema), ctx.folder / "p" / "train.parquet", compression="zstd", store_schema=False)
    assert (ctx.folder / "p" / "train.parquet").stat().st_size < 100_000
    refused(lambda: Parquet(path="p").load(ctx), "unpacks to .* MB or more, over 100 times the file's")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(99) + b"PAR1", b"x" * 999])
def test_other_files_are_no_tables(content, ctx):
    (ctx.folder / "p").mkdir()
    (ctx.folder / "p" / "train.parquet").write_bytes(content)
    refused(lambda: Parquet(path="p").load(ctx), "cannot be read as parquet")
    refused(lambda: Text(path="p").load(ctx), "cannot be read as parquet")
    refused(lambda: HuggingFaceData(path="p", columns={"x": "x"}).load(ctx), "cannot be read")


def test_json_without_end(ctx):
    (ctx.folder / "p").mkdir()
    for text in ("[" * 100_000, "[NaN]", "[1]", '[{"x": 1}, 2]', '[{"x": %s}]' % ("9" * 5000)):
        (ctx.folder / "p" / "train.json").write_text(text)
        refused(lambda: HuggingFaceData(path="p", columns={"x": "x"}, label="x").load(ctx), "cannot be read")


@pytest.mark.parametrize("name", ["data.npz", "weights.pt", "weights.safetensors", "train.parquet"])
def test_pipes_are_not_waited_for(name, ctx):
    os.mkfifo(ctx.folder / name)
    load = {
        "data.npz": lambda: Npz(path=name).load(ctx),
        "weights.pt": lambda: read_weights(ctx.folder / name),
        "weights.safetensors": lambda: read_weights(ctx.folder / name),
        "train.parquet": lambda: Parquet(path=".").load(ctx),
    }
    refused(load[name], "is no plain file|neither a file nor a folder")


def test_devices_are_no_data(ctx):
    refused(lambda: Npz(path="/dev/zero").load(ctx), "neither a file nor a folder")


@pytest.mark.slow
def test_a_class_that_is_no_model(ctx):
    for name in ("Trainer", "pipeline", "__name__", "AutoConfig"):
        (ctx.folder / "m").mkdir(exist_ok=True)
        config = {"architectures": [name], "model_type": "bert"}
        (ctx.folder / "m" / "config.json").write_text(json.dumps(config))
        refused(lambda: HuggingFace(path="m").build(ctx), f"transformers has no model '{name}'")


@pytest.mark.slow
def test_a_kernel_that_would_be_fetched_and_run(ctx):
    (ctx.folder / "m").mkdir()
    config = {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": 8, "num_attention_heads": 1}
    for more in ({"attn_implementation": "someone/attention"}, {"attn_implementation": {"": "someone/attention"}}):
        (ctx.folder / "m" / "config.json").write_text(json.dumps(config | more))
        refused(lambda: HuggingFace(path="m").build(ctx), "asks for attention .*someone/attention")
        (ctx.folder / "m" / "config.json").write_text(json.dumps(config))
        refused(lambda more=more: HuggingFace(path="m", args=more).build(ctx), "asks for attention|no entry")


@pytest.mark.slow
def test_many_classes_are_put_in_order_at_once():
    """Every sample a class of its own."""
    order = stratified_order(torch.arange(200_000))
    assert order.sort().values.equal(torch.arange(200_000))
