"""What a saved model tells of its inputs and outputs."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from autoprune.plugin import Inputs
from autoprune.structure.saved.forms import forms, inputs_of, named_inputs, named_outputs, output_forms
from autoprune.structure.saved.recipe import CutStep, Recipe, TransformStep, read_recipe


def test_inputs_keep_their_places_and_keywords() -> None:
    given = Inputs(tuple(torch.full((1,), float(number)) for number in range(11)), {"mask": torch.ones(1)})
    again = inputs_of(named_inputs(given))
    assert [float(tensor) for tensor in again.args] == list(range(11))
    assert list(again.kwargs) == ["mask"]


def test_outputs_are_named_by_where_they_stand() -> None:
    a, b = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    assert named_outputs(a) == {"": a}
    found = named_outputs({"logits": a, "cache": object(), "boxes": (None, [b])})
    assert {name: id(tensor) for name, tensor in found.items()} == {"logits": id(a), "boxes.1.0": id(b)}
    told = forms({"logits": a.bfloat16(), "boxes": b, "loss": torch.tensor(0.0)})
    assert {name: (form.shape, form.dtype) for name, form in told.items()} == {
        "logits": ((3,), "float32"),
        "boxes": ((), "int64"),
    }


def test_looking_at_outputs_leaves_a_network_as_it_was() -> None:
    network = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2), nn.Dropout())
    network[0].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert output_forms(network, Inputs((torch.rand(2, 4),)))[""].shape == (2,)
    assert [module.training for module in network.modules()] == [True, False, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_recipe_for_any_machine_tells_files_from_the_specs_folder(tmp_path: Path, monkeypatch) -> None:
    spec, inside, beside = tmp_path / "spec", tmp_path / "spec" / "bert", tmp_path / "table.json"
    inside.mkdir(parents=True)
    beside.touch()
    model = {"use": "huggingface", "path": str(inside), "args": {"kinds": ["/no/such/file", str(beside), 3]}}
    step = TransformStep(transform={"use": "gates", "table": str(beside)})
    recipe = Recipe(model=model, folder=spec, steps=(CutStep(), step)).portable()
    assert recipe.model == {
        "use": "huggingface",
        "path": "bert",
        "args": {"kinds": ["/no/such/file", "../table.json", 3]},
    }
    assert isinstance(recipe.steps[1], TransformStep)
    assert recipe.steps[1].transform["table"] == "../table.json"
    (inside / "recipe.json").write_text(recipe.model_dump_json())
    assert str(tmp_path) not in (inside / "recipe.json").read_text()
    assert json.loads((inside / "recipe.json").read_text())["folder"] == "."
    monkeypatch.chdir(spec)
    assert read_recipe(inside).folder == spec
