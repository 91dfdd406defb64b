"""Columns of parquet shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from torch import Tensor

from autoprune import DataError
from autoprune.plugin import SplitName
from autoprune.toolkit.files import listed, near, plain_file
from autoprune.toolkit.splits import SPLIT_NAMES, as_classes
from autoprune_sources._budget import check_unpacked

_MOST_ROWS = 8192
_PART_BYTES = 256 << 20
_LABEL_NAMES = ("label", "labels", "fine_label", "target", "class", "y")


@dataclass(frozen=True)
class ParquetImages:
    """The encoded images of one split."""

    where: str
    column: Any
    """Chunked array of binary."""
    paths: Any
    """Chunked array of string, or None."""

    def __len__(self) -> int:
        return len(self.column)

    def read(self, index: int) -> bytes:
        """The file's bytes."""
        content = self.column[index].as_py()
        if content is None:
            raise DataError(f"{self.name(index)} holds a path and no bytes; write the images into the parquet file")
        return cast("bytes", content)

    def name(self, index: int) -> str:
        """File, row and, where there is one, the image's own path."""
        path = None if self.paths is None else self.paths[index].as_py()
        return f"{self.where}: row {index}" + (f" ({path})" if path else "")


def shards_of(folder: Path) -> dict[SplitName, list[Path]]:
    """The files of every split that has some, in order: ``train.parquet``, or ``train-00000-of-00002.parquet``, ….

    Raises:
        DataError: The training split has none.
    """
    found: dict[SplitName, list[Path]] = {}
    for split, names in SPLIT_NAMES.items():
        every = ([*folder.glob(f"{name}.parquet"), *sorted(folder.glob(f"{name}-*.parquet"))] for name in names)
        if files := next(filter(None, every), None):
            found[split] = files
    if "train" not in found:
        there = listed(sorted(p.name for p in folder.iterdir())) if folder.is_dir() else "it is a file"
        raise DataError(f"{folder}: no train.parquet or train-*.parquet in this folder; there: {there}")
    return found


def read_images(shards: Sequence[Path], *, image: str | None, label: str | None) -> tuple[ParquetImages, Tensor]:
    """The images and classes, (N,), of one split.

    Args:
        shards: Files of the split, in order.
        image: Name of the image column, or None to find it.
        label: Name of the label column, or None to find it.

    Raises:
        DataError: A file is malformed, or its columns are not what is needed.
    """
    where, pixels, targets = read_columns(shards, lambda schema, where: _image_column(schema, image, where), label)
    return images_of(pixels, where), targets


def images_of(column: Any, where: str) -> ParquetImages:
    """The images of a column of that type: plain bytes, or ``{bytes, path}``."""
    if not pa.types.is_struct(column.type):
        return ParquetImages(where, column, None)
    names = [field.name for field in column.type]
    paths = pc.struct_field(column, "path") if "path" in names else None
    return ParquetImages(where, pc.struct_field(column, "bytes"), paths)


def read_columns(
    shards: Sequence[Path], inputs: Callable[[pa.Schema, str], str], label: str | None
) -> tuple[str, Any, Tensor]:
    """What to call the shards in an error, their column of inputs (a chunked array), and the classes (N,).

    Args:
        shards: Files of one split, in order.
        inputs: Finds the column's name in a schema; also gets what to call the shards.
        label: Name of the label column, or None to find it.

    Raises:
        DataError: A file is malformed, or its columns are not what is needed.
    """
    where = str(shards[0]) if len(shards) == 1 else f"{shards[0]} and {len(shards) - 1} more"
    try:
        schema = schema_of(shards[0])
        column = inputs(schema, where)
        label = _label_column(schema, label, where)
        table = pa.concat_tables([read_table(shard, [column, label]) for shard in shards])
    except DataError:
        raise
    except Exception as error:  # of pyarrow, of many kinds
        cause = " ".join(str(error).split())
        raise DataError(f"{where}: cannot be read as parquet: {cause:.300}") from error
    classes = table.column(label)
    if classes.null_count:
        raise DataError(f"{where}: column {label!r} lacks {classes.null_count} classes")
    if not len(classes):
        raise DataError(f"{where}: no rows")
    return where, table.column(column), as_classes(classes.to_numpy(), where=f"{where}: column {label!r}")


def schema_of(shard: Path) -> pa.Schema:
    """The columns of a file.

    Raises:
        OSError: It is no plain file.
        pa.ArrowException: It is no parquet.
    """
    return pq.read_schema(plain_file(shard))


def read_table(shard: Path, columns: Sequence[str]) -> pa.Table:
    """Some columns of a file.

    A few bytes may stand for a long column, as equal values are stored once: it is read in parts, so that too much is
    told before it is there.

    Raises:
        DataError: They would be far more than the file.
        OSError: It is no plain file.
        pa.ArrowException: It is no parquet, or has no such columns.
    """
    with pq.ParquetFile(plain_file(shard)) as file:
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        sizes = [group.column(n).total_uncompressed_size for group in groups for n in range(group.num_columns)]
        check_unpacked(shard, max(sizes, default=0))
        # No value is larger than a column of the file.
        rows = max(1, min(_MOST_ROWS, _PART_BYTES // max(1, *sizes, 1)))
        parts, size = [], 0
        for part in file.iter_batches(batch_size=rows, columns=list(columns)):
            size += part.nbytes
            check_unpacked(shard, size)
            parts.append(part)
        table = pa.Table.from_batches(parts) if parts else file.read(columns=list(columns))
        return table.select(list(columns))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of that type holds strings."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def type_of(schema: pa.Schema, name: str, where: str) -> pa.DataType:
    """Type of the column that the user named.

    Raises:
        DataError: There is no such column.
    """
    if name not in schema.names:
        raise DataError(f"{where}: no column {name!r}{near(name, schema.names)}")
    return schema.field(name).type


def columns(schema: pa.Schema) -> str:
    """All columns with their types, for errors."""
    return "Columns: " + listed(f"{field.name} ({field.type})" for field in schema)


def is_image(kind: pa.DataType) -> bool:
    """Whether a column of that type holds encoded images."""
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return bool(_is_binary(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _image_column(schema: pa.Schema, asked: str | None, where: str) -> str:
    if asked is not None:
        kind = type_of(schema, asked, where)
        if not is_image(kind):
            raise DataError(f"{where}: column {asked!r} holds {kind}, not encoded images")
        return asked
    found = [field.name for field in schema if is_image(field.type)]
    if len(found) > 1:
        raise DataError(f"{where}: columns {listed(found)} all hold images; name one with `image`")
    if found:
        return str(found[0])
    text = [field.name for field in schema if is_text(field.type)]
    if text:
        raise DataError(f"{where}: column {text[0]!r} holds text, not images; `use: text` reads it. {columns(schema)}")
    raise DataError(f"{where}: no column holds encoded images. {columns(schema)}")


def _label_column(schema: pa.Schema, asked: str | None, where: str) -> str:
    if asked is not None:
        kind = type_of(schema, asked, where)
        if not pa.types.is_integer(kind):
            raise DataError(f"{where}: column {asked!r} holds {kind}; classes are integers from 0")
        return asked
    integers = [field.name for field in schema if pa.types.is_integer(field.type)]
    named = [name for name in _LABEL_NAMES if name in integers]
    if named or len(integers) == 1:
        return str((named or integers)[0])
    if integers:
        raise DataError(f"{where}: columns {listed(integers)} all hold integers; name the classes' with `label`")
    raise DataError(f"{where}: no column holds integer classes. {columns(schema)}")
