"""Saved models open again, in another process too, and nothing in them is pickled."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from autoprune.errors import StructureError
from autoprune.plugin import Normalization, SourceContext
from autoprune.structure import Structure, discover, load_pruned, save_pruned

from .nets import CASES, discovered, example
from .test_parity import candidate
from .toy_source import Toy


def saved(name: str, folder: Path) -> tuple[nn.Module, nn.Module, Structure]:
    net, structure = discovered(name)
    kept = candidate(structure, 0)
    plan = structure.plan(net, kept)
    small = structure.cut(net, kept)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))  # recovered: no longer slices of the dense weights
    save_pruned(
        folder,
        small,
        plan=plan,
        kept=kept,
        cut_units={group.name: group.units - len(kept[group.name]) for group in structure.groups},
        source=Toy(case=name),
        ctx=SourceContext(folder=folder, cache=folder, seed=0),
        normalization=Normalization((0.5,), (0.2,)),
    )
    return net, small, structure


pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


@pytest.mark.parametrize("name", CASES)
def test_opens_to_the_same_model(name: str, tmp_path: Path) -> None:
    _, small, _ = saved(name, tmp_path)
    opened = load_pruned(tmp_path, dense=CASES[name].make())
    inputs = example(CASES[name], samples=3)
    with torch.no_grad():
        assert torch.equal(opened(*inputs), small(*inputs))
    assert not opened.training
    assert str(opened) == str(small.eval()), "attributes and modules agree"


def test_a_saved_model_can_be_cut_again(tmp_path: Path) -> None:
    saved("squeeze-excite", tmp_path)
    net = load_pruned(tmp_path, dense=CASES["squeeze-excite"].make())
    inputs = example(CASES["squeeze-excite"])
    structure = discover(net, inputs)
    kept = candidate(structure, 9)
    with torch.no_grad():
        torch.testing.assert_close(structure.cut(net, kept)(*inputs), structure.masked(net, kept)(*inputs))


def test_holds_json_and_safetensors_alone(tmp_path: Path) -> None:
    saved("vgg", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.json", "weights.safetensors"]
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert recipe["model"] == {"use": "toy-net", "case": "vgg"}
    assert recipe["mean"] == [0.5]
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads((tmp_path / "weights.safetensors").read_bytes())


def test_another_model_is_refused(tmp_path: Path) -> None:
    saved("vgg", tmp_path)
    with pytest.raises(StructureError, match="not the model of the recipe"):
        load_pruned(tmp_path, dense=CASES["residual"].make())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "recipe.json").unlink(), "holds no saved model"),
        (lambda f: (f / "recipe.json").write_text("{"), "is no recipe"),
        (lambda f: (f / "weights.safetensors").write_bytes(b"nothing"), "cannot be read"),
    ],
)
def test_a_damaged_folder_is_one_clear_error(damage: object, message: str, tmp_path: Path) -> None:
    saved("vgg", tmp_path)
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(StructureError, match=message):
        load_pruned(tmp_path, dense=CASES["vgg"].make())
