"""Saved models open again, in another process too, and nothing in them is pickled."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from autoprune.errors import StructureError
from autoprune.plugin import Data, ModelSource, Normalization, SourceContext
from autoprune.structure import CutStep, Structure, discover, load_pruned, read_recipe, write_pruned

from .nets import CASES, discovered, example, perturb
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
    write_pruned(
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


pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")]


@pytest.mark.parametrize("name", CASES)
def test_opens_to_the_same_model(name: str, tmp_path: Path) -> None:
    _, small, _ = saved(name, tmp_path)
    opened = load_pruned(tmp_path, dense=CASES[name].make())
    inputs = example(CASES[name], samples=3)
    with torch.no_grad():
        assert torch.equal(opened(*inputs), small(*inputs))
    assert not opened.training
    assert str(opened) == str(small.eval()), "attributes and modules agree"


@pytest.mark.slow
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


class Again(ModelSource):
    """Opens a saved model, to be cut on."""

    name = "again"
    path: Path

    def build(self, ctx: SourceContext) -> nn.Module:
        return load_pruned(self.path, dense=wide())

    def load(self, data: Data, ctx: SourceContext) -> nn.Module:
        return self.build(ctx)

    def pruned_in(self, ctx: SourceContext) -> Path:
        return self.path


def wide() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 60, 3, padding=1), nn.BatchNorm2d(60), nn.ReLU(), nn.Flatten(), nn.Linear(60 * 16, 4)
    return perturb(nn.Sequential(*layers)).eval()


@pytest.mark.slow
def test_many_rounds_compose_to_one_recipe_without_drift(tmp_path: Path) -> None:
    dense, x = wide(), torch.randn(2, 3, 4, 4)
    net, survivors = dense, torch.arange(60)
    source: ModelSource = Toy(case="vgg")
    for left in range(56, 9, -4):
        structure = discover(net, (x,), ["channels", "weights"])
        kept = structure.select({"0": torch.rand(left + 4)}, {"0": 4})
        small = structure.cut(net, kept)
        with torch.no_grad():
            torch.testing.assert_close(small(x), structure.masked(net, kept)(x), atol=1e-5, rtol=1e-5)
        survivors = survivors[kept["0"]]
        write_pruned(
            tmp_path / str(left),
            small,
            plan=structure.plan(net, kept),
            kept=kept,
            cut_units={"0": 4},
            source=source,
            ctx=SourceContext(folder=tmp_path, cache=tmp_path, seed=0),
        )
        net, source = load_pruned(tmp_path / str(left), dense=wide()), Again(path=tmp_path / str(left))
        with torch.no_grad():
            assert torch.equal(net(x), small(x))
    recipe = read_recipe(tmp_path / "12")
    assert recipe.model == {"use": "toy-net", "case": "vgg"}, "it opens without those before it"
    (step,) = recipe.steps
    assert isinstance(step, CutStep)
    assert step.kept["0.weight"][0] == survivors.tolist()
    at_once = discover(dense, (x,)).cut(dense, {"0": survivors})
    with torch.no_grad():
        assert torch.equal(net(x), at_once(x))


def test_zeros_outlive_another_cut(tmp_path: Path) -> None:
    dense, x = wide(), torch.randn(2, 3, 4, 4)
    structure = discover(dense, (x,), ["weights"])
    zeroed = structure.cut(dense, structure.select({"0.weight": torch.rand(1620)}, {"0.weight": 800}))
    again = discover(zeroed, (x,))
    small = again.cut(zeroed, {"0": torch.arange(30)}).train()
    before = (small[0].weight == 0).sum()
    small(x).square().mean().backward()
    torch.optim.SGD(small.parameters(), lr=0.1).step()
    assert before > 300
    assert (small[0].weight == 0).sum() == before
