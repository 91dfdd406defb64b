"""Tables of a folder: a saved ``datasets`` one, or files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
from numpy.typing import NDArray

from autoprune import DataError
from autoprune.plugin import SplitName
from autoprune.toolkit.files import json_of, listed, near
from autoprune.toolkit.packages import optional
from autoprune.toolkit.splits import SPLIT_NAMES
from autoprune_sources._parquet import is_text, read_table, schema_of

_ENDINGS = (".parquet", ".csv", ".jsonl", ".json")

_Reader = Callable[[Mapping[str, str], str], pa.Table]
"""Names of columns to the options that name them, and what to call the split in an error, to these columns."""


@dataclass(frozen=True)
class Table:
    """Columns of one split."""

    where: str
    """What to call it in an error."""
    columns: Mapping[str, Any]
    """Chunked arrays by name."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def texts(self, name: str) -> Any:
        """A column of strings, as a chunked array.

        Raises:
            DataError: It holds something else, or nothing in some row.
        """
        column = self.columns[name]
        if not is_text(column.type):
            raise DataError(f"{self.where}: column {name!r} holds {column.type}, not text")
        self._check_filled(name)
        return column

    def numbers(self, name: str) -> NDArray[Any]:
        """A column of numbers, or of lists of them that are of one length, (N, …).

        Raises:
            DataError: It holds something else, nothing in some row, or lists of several lengths.
        """
        column = self.columns[name]
        if is_text(column.type):
            raise DataError(f"{self.where}: column {name!r} holds text, not numbers")
        self._check_filled(name)
        values = column.combine_chunks()
        shape = [len(values)]
        while True:
            values = getattr(values, "storage", values)  # of an extension type, such as Array2D of datasets
            if not _is_list(values.type):
                break
            lengths = set(pc.list_value_length(values).unique().to_pylist())
            if len(lengths) > 1:
                raise DataError(
                    f"{self.where}: column {name!r} holds lists of {min(lengths)} to {max(lengths)}; pad them to one"
                    " length"
                )
            shape.append(lengths.pop())
            values = values.flatten()
            if values.null_count:
                raise DataError(f"{self.where}: column {name!r} holds lists with nothing in some place")
        kind = values.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise DataError(f"{self.where}: column {name!r} holds {column.type}, not numbers")
        numbers: NDArray[Any] = np.asarray(values.to_numpy(zero_copy_only=False)).reshape(shape)
        return numbers

    def _check_filled(self, name: str) -> None:
        column = self.columns[name]
        if column.null_count:
            row = pc.index(column.is_null(), True).as_py()
            raise DataError(
                f"{self.where}: column {name!r} is empty in {column.null_count} rows, the first of them {row}"
            )


def read_tables(
    folder: Path, columns: Mapping[str, str], *, splits: Mapping[SplitName, str] | None = None
) -> dict[SplitName, Table]:
    """Those columns of each split that is there; ``train`` always is.

    Args:
        folder: Written by ``save_to_disk`` of ``datasets``, or of files by split, ``train.csv`` or
            ``train-00000-of-00002.parquet``; or a single file of training samples.
        columns: Their names, and the option that names each.
        splits: What splits are called there, where that is not what they are called here.

    Raises:
        DataError: There is no training split or no such column, or a file cannot be read.
    """
    with _told(str(folder)):
        readers = _saved(folder) or _files(folder)
    named = dict(splits or {})
    for split, name in named.items():
        if name not in readers:
            raise DataError(f"splits: {split}: {folder} has no split {name!r}{near(name, readers)}")
    for split, aliases in SPLIT_NAMES.items():
        free = [alias for alias in aliases if alias in readers and alias not in named.values()]
        if split not in named and free:
            named[split] = free[0]
    if "train" not in named:
        there = listed(readers) or (listed(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else "")
        hint = "" if splits is None else "; the option `splits` says which is"
        raise DataError(f"{folder}: no split is called train; there: {there or 'nothing'}{hint}")
    tables: dict[SplitName, Table] = {}
    for split, name in named.items():
        where = f"{folder}: {name}"
        with _told(where):
            found = readers[name](columns, where)
        if not found.num_rows:
            raise DataError(f"{where}: no rows")
        tables[split] = Table(where, {column: found.column(column) for column in columns})
    return tables


@contextmanager
def _told(where: str) -> Iterator[None]:
    """What pyarrow and datasets raise, of many kinds, in one line.

    Raises:
        DataError: In place of it.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{where}: cannot be read: {' '.join(str(error).split()):.300}") from error


def _saved(folder: Path) -> dict[str, _Reader]:
    """What ``datasets`` saved, by split; empty if it did not."""
    if not any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return {}
    loaded = optional("datasets").load_from_disk(str(folder))

    def reader(dataset: Any) -> _Reader:
        def read(columns: Mapping[str, str], where: str) -> pa.Table:
            _check_columns(columns, dataset.column_names, where)
            return dataset.select_columns(list(columns)).with_format("arrow")[:]

        return read

    return {
        str(name): reader(each) for name, each in (loaded if isinstance(loaded, dict) else {"train": loaded}).items()
    }


def _files(folder: Path) -> dict[str, _Reader]:
    """Files of tables by the split that their names begin with."""
    found: dict[str, list[Path]] = {"train": [folder]} if folder.is_file() else {}
    for path in [] if folder.is_file() else sorted(folder.iterdir()):
        if path.suffix in _ENDINGS and path.is_file():
            found.setdefault(path.stem.partition("-")[0], []).append(path)

    def reader(name: str, paths: Sequence[Path]) -> _Reader:
        whole = [path for path in paths if path.stem == name] or paths  # or else in shards
        if len({path.suffix for path in whole}) > 1:
            raise DataError(f"{folder}: {name} is there twice: {listed(path.name for path in whole)}")
        return lambda columns, where: pa.concat_tables([_read(path, columns, where) for path in whole])

    return {name: reader(name, paths) for name, paths in found.items()}


def _read(path: Path, columns: Mapping[str, str], where: str) -> pa.Table:
    if path.suffix == ".parquet":
        _check_columns(columns, schema_of(path).names, where)
        return read_table(path, list(columns))
    if path.suffix == ".csv":
        table = pyarrow.csv.read_csv(path, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True))
    elif _begins(path) == b"[":
        table = pa.Table.from_pylist(json_of(path.read_bytes()))
    else:
        table = pyarrow.json.read_json(path)
    _check_columns(columns, table.column_names, where)
    return table.select(list(columns))


def _begins(path: Path) -> bytes:
    """The first character that is no space."""
    with path.open("rb") as file:
        return file.read(1024).lstrip()[:1]


def _check_columns(columns: Mapping[str, str], known: Sequence[str], where: str) -> None:
    if missing := [name for name in columns if name not in known]:
        name = missing[0]
        raise DataError(f"{where}: no column {name!r} for the option {columns[name]}{near(name, known)}")


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
