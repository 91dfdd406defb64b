"""Exported programs that deceive: they touch a marker file where ``torch.export.load`` opens them or they run."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoprune import save_program

Entries = dict[str, bytes]


class Touch:
    """Unpickled, it touches a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


class Net(nn.Module):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(data).relu())  # type: ignore[no-any-return]


def honest(file: Path) -> Entries:
    """The entries of a program that is what it says, by their names below its folder."""
    save_program(Net(), torch.randn(2, 4), file)
    with zipfile.ZipFile(file) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(file: Path, entries: Entries, **options: Any) -> None:
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, content in entries.items():
            archive.writestr(f"m/{name}", content)


def saved(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def edited(entries: Entries, name: str, edit: Callable[[Any], None]) -> None:
    data = json.loads(entries[name])
    edit(data)
    entries[name] = json.dumps(data).encode()


def of_program(change: Callable[[Any, str], None]) -> Callable[[Entries, Path], None]:
    """Changes the text of the program; gets the Python that touches the marker."""

    def damage(entries: Entries, marker: Path) -> None:
        code = f"__import__('os').system('touch {marker}')"
        edited(entries, "models/model.json", lambda data: change(data["graph_module"], code))

    return damage


def of_config(kind: str, change: Callable[[Any], None], content: Callable[[Path], Entries]) -> Any:
    def damage(entries: Entries, marker: Path) -> None:
        edited(entries, f"data/{kind}/model_{kind}_config.json", lambda data: change(data["config"]))
        entries.update(content(marker))

    return damage


def sizes_of(module: Any) -> list[Any]:
    return [size for meta in module["graph"]["tensor_values"].values() for size in meta["sizes"] if "as_expr" in size]


def first_size(module: Any, code: str) -> None:
    sizes_of(module)[0]["as_expr"]["expr_str"] = code


def called(module: Any, code: str) -> None:
    """A tensor that is a file, which is made as long as that."""
    node = module["graph"]["nodes"][1]
    node["target"] = "torch.ops.aten.from_file.default"
    arguments = {
        "filename": {"as_string": code.split()[1].rstrip("')")},
        "shared": {"as_bool": True},
        "size": {"as_int": 9},
    }
    node["inputs"] = [{"name": name, "arg": arg, "kind": 1} for name, arg in arguments.items()]


def named(module: Any, code: str) -> None:
    """The input has a name that is code where the graph's function is written."""
    text = json.dumps(module).replace('"data"', json.dumps(f"data=({code})"))
    module.clear()
    module.update(json.loads(text))


def container(kind: str, context: Any) -> Callable[[Any, str], None]:
    def change(module: Any, code: str) -> None:
        leaf = {"type": None, "context": None, "children_spec": []}
        told = [1, {"type": kind, "context": context, "children_spec": [leaf]}]
        module["module_call_graph"][0]["signature"]["out_spec"] = json.dumps(told)

    return change


PICKLED = {"path_name": "weight_0", "is_param": True, "use_pickle": True, "tensor_meta": None}

ATTACKS: dict[str, Callable[[Entries, Path], None]] = {
    "sample inputs": lambda entries, marker: entries.update({"data/sample_inputs/model.pt": saved(Touch(marker))}),
    "a pickled weight": of_config(
        "weights",
        lambda config: config.update({"first.weight": PICKLED}),
        lambda marker: {"data/weights/weight_0": saved(Touch(marker))},
    ),
    "a pickled constant": of_config(
        "constants",
        lambda config: config.update({"c": {**PICKLED, "path_name": "tensor_0"}}),
        lambda marker: {"data/constants/tensor_0": saved(Touch(marker))},
    ),
    "an opaque object": of_config(
        "constants",
        lambda config: config.update({"c": {**PICKLED, "path_name": "opaque_obj_0", "is_param": False}}),
        lambda marker: {"data/constants/opaque_obj_0": pickle.dumps(Touch(marker))},
    ),
    "weights of the legacy format": lambda entries, marker: entries.update(
        {"data/weights/model.pt": saved(Touch(marker))}
    ),
    "constants of the legacy format": lambda entries, marker: entries.update(
        {"data/constants/model.pt": saved(Touch(marker))}
    ),
    "a size": of_program(first_size),
    "an operator on files": of_program(called),
    "a name": of_program(named),
}
"""What runs code, or writes, by ``torch.export.load`` or when the program is called."""


def imported(folder: Path, marker: Path) -> Callable[[Entries, Path], None]:
    """A container whose context is a member of a module that lies beside: it is imported."""
    (folder / "deceiving_module.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Kind: a = 1\n")
    context = {"default_factory_module": "deceiving_module", "default_factory_name": "Kind", "dict_context": ["y"]}
    return of_program(container("collections.defaultdict", context))


def enumerated(folder: Path, marker: Path) -> Callable[[Entries, Path], None]:
    (folder / "deceiving_module.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Kind: pass\n")
    context = [{"__enum__": True, "fqn": "deceiving_module:Kind", "name": "a"}]
    return of_program(container("builtins.dict", json.dumps(context)))
