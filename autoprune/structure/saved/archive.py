"""The archive of an exported program: which entries it may have, and its tensors. Nothing in it is unpickled."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.toolkit.files import json_of, plain_file

_ENTRIES = re.compile(
    r"archive_format|archive_version|byteorder|(\.data/)?version|\.data/serialization_id|models/model\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt|extra/[\w./-]+"
)
_OTHERS = {  # what torch.export.load would run or unpickle
    r"(data/weights|data/constants)/.*\.pt|serialized_.*|version": "is in the old format of torch.export",
    r"data/constants/(custom|opaque)_obj_.*": "holds pickled objects",
    r"data/(aotinductor|executorch|mtia).*": "holds compiled code",
}
_MOST_ENTRIES = 100_000
_MOST_TEXT = 64 << 20
"""Bytes of the program's text."""
_MOST_BEYOND = 64 << 20
"""Bytes that its tensors may have beyond what is stored, as some repeat entries (strides of 0)."""
_HOW = "write it by autoprune.save_program, or by torch.export.save after `program.example_inputs = None`"
TENSOR_NAME = r"[^\"'\\\x00-\x1f\x7f]{1,1000}"
"""What a parameter or buffer may be called: it goes into code, in quotes."""

Whole = Field(ge=0, lt=2**62)


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Size(_Data):
    as_int: int = Whole


class _Device(_Data):
    type: Literal["cpu", "cuda", "mps", "xpu"]
    index: int | None = Field(default=None, ge=0, lt=1024)

    @property
    def place(self) -> torch.device:
        """As PyTorch says it."""
        return torch.device(self.type if self.index is None else f"{self.type}:{self.index}")


class _Meta(_Data):
    dtype: int
    sizes: list[_Size] = Field(max_length=64)
    strides: list[_Size] = Field(max_length=64)
    storage_offset: _Size
    requires_grad: bool
    device: _Device
    layout: Literal[7]

    @property
    def needs(self) -> int:
        """How many numbers have to be stored."""
        if len(self.sizes) != len(self.strides):
            raise ValueError("sizes and strides differ in number")
        if self.numbers == 0:
            return 0
        pairs = zip(self.sizes, self.strides, strict=True)
        return self.storage_offset.as_int + 1 + sum((size.as_int - 1) * stride.as_int for size, stride in pairs)

    @property
    def numbers(self) -> int:
        """How many it has."""
        count = 1
        for size in self.sizes:
            count *= size.as_int
        return count


class _Payload(_Data):
    path_name: str = Field(pattern=r"^(weight|tensor)_\d+$")
    is_param: bool
    use_pickle: Literal[False]
    tensor_meta: _Meta


class _Payloads(_Data):
    config: dict[str, _Payload]


class Archive:
    """The entries of a ``.pt2`` file, by their names below its one folder."""

    def __init__(self, file: Path, archive: zipfile.ZipFile) -> None:
        """Look at what there is.

        Raises:
            StructureError: It has an entry that no exported program needs, or more than is stored.
        """
        self._file, self._archive = file, archive
        self._entries: dict[str, zipfile.ZipInfo] = {}
        self._beyond = _MOST_BEYOND
        every = archive.infolist()
        if len(every) > _MOST_ENTRIES:
            raise StructureError(f"{file} has {len(every):,} entries, which is no exported program")
        for info in every:
            folder, _, name = info.filename.partition("/")
            self._check(info, name, inside=folder == every[0].filename.partition("/")[0])
            self._entries[name] = info
        if sum(info.file_size for info in every) > file.stat().st_size:
            raise StructureError(f"{file} is no exported program: its entries lie over each other")
        if self.read("byteorder") != b"little":
            raise StructureError(f"{file} is of a machine with another order of bytes")

    def _check(self, info: zipfile.ZipInfo, name: str, *, inside: bool) -> None:
        shown = ascii(info.filename)[1:-1][:100]
        if info.filename in {"version"} or not _ENTRIES.fullmatch(name) or ".." in name or not inside:
            what = (said for sign, said in _OTHERS.items() if re.fullmatch(sign, name or info.filename))
            raise StructureError(f"{self._file} {next(what, 'has an entry of no known kind')} ({shown}); {_HOW}")
        if name in self._entries:
            raise StructureError(f"{self._file} has two entries {shown}")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            raise StructureError(f"{self._file}: {shown} is compressed or encrypted, which torch.export never does")
        if name.startswith("data/sample_inputs/") and info.file_size:
            raise StructureError(f"{self._file} holds pickled objects ({shown}); {_HOW}")

    def read(self, name: str) -> bytearray:
        """An entry.

        Raises:
            StructureError: There is none of that name.
        """
        if name not in self._entries:
            raise StructureError(f"{self._file} is no exported program: it has no {name}")
        info = self._entries[name]
        content = bytearray(info.file_size)
        with self._archive.open(info) as entry, io.BufferedReader(entry) as stream:  # type: ignore[type-var]
            if stream.readinto(content) != info.file_size or stream.read(1):  # the latter compares the checksum
                raise StructureError(f"{self._file} is no exported program: {name} is cut off")
        return content

    def text(self, name: str) -> Any:
        """An entry's JSON."""
        if name in self._entries and self._entries[name].file_size > _MOST_TEXT:
            raise StructureError(f"{self._file}: {name} is larger than {_MOST_TEXT >> 20} MB")
        return json_of(self.read(name))

    def tensors(self, kind: Literal["weights", "constants"]) -> dict[str, Tensor]:
        """Parameters and buffers, or constants, by name; those that share memory do so again.

        Raises:
            StructureError: They are not as stored.
        """
        from torch._export.serde.serialize import _SERIALIZE_TO_TORCH_DTYPE as DTYPES

        name = f"data/{kind}/model_{kind}_config.json"
        try:
            payloads = _Payloads.model_validate(self.text(name)).config
        except ValidationError as error:
            first = error.errors()[0]
            if "use_pickle" in first["loc"]:
                raise StructureError(f"{self._file} holds pickled objects ({name}); {_HOW}") from error
            where = ".".join(map(str, first["loc"][1:]))
            raise StructureError(f"{self._file}: {name}: {where[:200]!a}: {first['msg'][:200]}") from error
        stored: dict[str, Tensor] = {}
        made: dict[str, Tensor] = {}
        for name, payload in payloads.items():
            meta, path = payload.tensor_meta, payload.path_name
            if not re.fullmatch(TENSOR_NAME, name) or meta.dtype not in DTYPES:
                raise StructureError(f"{self._file}: tensor {ascii(name)[:100]} is of no known kind")
            dtype = DTYPES[meta.dtype]
            if path not in stored:
                content = self.read(f"data/{kind}/{path}")
                content = content[: len(content) // dtype.itemsize * dtype.itemsize]
                numbers = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
                stored[path] = numbers.to(meta.device.place)
            self._beyond -= max(0, meta.numbers * dtype.itemsize - stored[path].nbytes)
            if meta.needs > len(stored[path]) or stored[path].dtype != dtype or self._beyond < 0:
                raise StructureError(f"{self._file}: tensor {name} has more numbers than are stored")
            shape = [size.as_int for size in meta.sizes]
            strides = [stride.as_int for stride in meta.strides]
            tensor = torch.as_strided(stored[path], shape, strides, meta.storage_offset.as_int)
            made[name] = nn.Parameter(tensor, requires_grad=meta.requires_grad) if payload.is_param else tensor
        return made


@contextmanager
def opened_archive(file: Path) -> Iterator[Archive]:
    """A ``.pt2`` file.

    Raises:
        StructureError: It is none.
    """
    with zipfile.ZipFile(plain_file(file)) as archive:
        yield Archive(file, archive)
