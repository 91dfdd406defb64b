"""A saved model whose files say what cannot be is one line, and costs nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from autoprune.errors import AutopruneError, StructureError
from autoprune.plugin import SourceContext
from autoprune.structure import discover, load_pruned, write_pruned
from autoprune_sources.digits_cnn import DigitsCnn


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A model that was cut, as it should be."""
    folder = tmp_path_factory.mktemp("model")
    source, ctx = DigitsCnn(width=4), SourceContext(folder=folder, cache=folder, seed=0)
    network = source.build(ctx).eval()
    structure = discover(network, (torch.rand(2, 1, 8, 8),))
    kept = {group.name: torch.arange(group.units - 1) for group in structure.groups}
    small = structure.cut(network, kept)
    plan = structure.plan(network, kept)
    write_pruned(folder, small, plan=plan, kept=kept, cut_units={}, source=source, ctx=ctx)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def placed(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def changed(folder: Path, change: Callable[[Any], None]) -> None:
    data = json.loads((folder / "recipe.json").read_text())
    change(data)
    (folder / "recipe.json").write_text(json.dumps(data))


def step(name: str, **values: Any) -> Callable[[Any], None]:
    return lambda data: data["steps"][0][name].update(values)


def kept(index: list[int]) -> Callable[[Any], None]:
    return lambda data: data["steps"][0]["kept"]["conv1.weight"].update({"0": index})


RECIPES: dict[str, tuple[Callable[[Any], None], str]] = {
    "an index beyond": (kept([0, 99]), "has no such indices"),
    "an index below": (kept([-1, 0]), "has no such indices"),
    "an index twice": (kept([1, 1]), "has no such indices"),
    "no index": (kept([]), "has no such indices"),
    "other sizes": (kept([0]), "does not fit|cannot be opened"),
    "an index without end": (kept([0, 10**30]), "is no recipe|has no such indices"),
    "a size that grows": (step("attributes", conv1={"out_channels": 10**9}), "holds no such size 'out_channels'"),
    "a size below zero": (step("attributes", conv1={"out_channels": -1}), "holds no such size 'out_channels'"),
    "sizes for one": (step("attributes", conv1={"out_channels": [1, 2]}), "holds no such size 'out_channels'"),
    "one dimension more": (step("attributes", conv1={"stride": [1, 1, 1]}), "holds no such size 'stride'"),
    "a tuple without end": (step("bypassed", block1=10**9), r"steps\.0\.CutStep\.bypassed"),
    "a mask of nothing": (lambda data: data.update(masks=["nothing"]), "masks: the model has no parameter 'nothing'"),
    "a mask of a buffer": (lambda data: data.update(masks=["bn1.running_mean"]), "masks: the model has no parameter"),
    "a format without end": (lambda data: data.update(format=[10**30] * 1000), "is of format"),
    "a seed without end": (lambda data: data.update(seed=10**30), "is no recipe: seed"),
    "a model without end": (lambda data: data["model"].update(width=10**9), "recipe.json"),
    "another key": (lambda data: data.update(other=1), "is no recipe: other"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_within_bounds(name: str, files: dict[str, bytes], tmp_path: Path) -> None:
    change, message = RECIPES[name]
    changed(placed(files, tmp_path), change)
    with pytest.raises(AutopruneError, match=message) as error:
        load_pruned(tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 800


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[" * 1_000_000, "is nested too deeply"),
        (b'{"format": 2, "seed": NaN}', "NaN is no number of JSON"),
        (b'{"format": 2, "seed": %s}' % (b"9" * 5000), "is no recipe"),
        (b"\xff\xfe\xff", "is no recipe"),
        (b"", "is no recipe"),
        (b"[]", "is no recipe"),
    ],
)
def test_other_texts_are_no_recipe(text: bytes, message: str, files: dict[str, bytes], tmp_path: Path) -> None:
    (placed(files, tmp_path) / "recipe.json").write_bytes(text)
    with pytest.raises(StructureError, match=message):
        load_pruned(tmp_path)


def test_pipes_and_huge_files_are_not_read(files: dict[str, bytes], tmp_path: Path) -> None:
    placed(files, tmp_path)
    for name in ("recipe.json", "weights.safetensors"):
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
        with pytest.raises(StructureError, match="is no plain file"):
            load_pruned(tmp_path)
        (tmp_path / name).unlink()
        with (tmp_path / name).open("wb") as file:
            file.truncate(10**10)  # of nothing
        with pytest.raises(StructureError, match="is larger than 64 MB" if name == "recipe.json" else "cannot be read"):
            load_pruned(tmp_path)
        (tmp_path / name).write_bytes(files[name])
    load_pruned(tmp_path)


@pytest.mark.parametrize("kind", [torch.int32, torch.complex64])
def test_weights_are_of_the_models_kind(kind: torch.dtype, files: dict[str, bytes], tmp_path: Path) -> None:
    weights = load_file(placed(files, tmp_path) / "weights.safetensors")
    save_file(weights | {"conv1.weight": weights["conv1.weight"].to(kind)}, tmp_path / "weights.safetensors")
    with pytest.raises(StructureError, match=r"tensor 'conv1\.weight' does not fit"):
        load_pruned(tmp_path)
