"""A saved model runs code that its recipe names, or that its folder brings along, only if the caller says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from autoprune.errors import AutopruneError, DataError, StructureError
from autoprune.plugin import SourceContext
from autoprune.structure import Plan, load_pruned, write_pruned
from autoprune_sources.digits_cnn import DigitsCnn
from autoprune_sources.factory import Factory
from autoprune_sources.pruned import Pruned

pytestmark = pytest.mark.slow


def recipe(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    whole = {"format": 2, "model": {"use": "digits-cnn"}, "folder": str(folder), "steps": [], **changes}
    (folder / "recipe.json").write_text(json.dumps(whole))
    return folder


def touching(marker: Path) -> dict[str, Any]:
    return {"use": "factory", "target": "os:system", "args": {"command": f"touch {marker}"}}


def test_what_a_recipe_names_runs_only_if_trusted(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    folder = recipe(tmp_path / "m", model=touching(marker))
    with pytest.raises(StructureError, match=r'"os:system".*write trust=True .*, or hand the dense model over: dense='):
        load_pruned(folder)
    with pytest.raises(DataError, match="there is no"):
        Pruned(path=Path("elsewhere")).build(SourceContext(tmp_path, tmp_path, 0))
    with pytest.raises(DataError, match=r"in a spec trust: true"):
        Pruned(path=folder).build(SourceContext(tmp_path, tmp_path, 0))
    with pytest.raises(StructureError, match="cannot be read"):
        load_pruned(folder, dense=nn.Linear(2, 2))
    assert not marker.exists()
    with pytest.raises(DataError, match="made int"):
        load_pruned(folder, trust=True)
    assert marker.exists(), "it would have"


@pytest.mark.parametrize("trust", [False, True])
def test_trust_that_a_recipe_claims_counts_for_nothing(trust: bool, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    recipe(tmp_path / "inner", model=touching(marker))
    folder = recipe(tmp_path / "m", model={"use": "pruned", "path": str(tmp_path / "inner"), "trust": trust})
    with pytest.raises(AutopruneError, match="which may run code that it names"):
        load_pruned(folder)
    assert not marker.exists()


def test_a_model_that_leads_back_to_itself_is_one_line(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        recipe(tmp_path / name, model={"use": "pruned", "path": str(tmp_path / other)})
    with pytest.raises(DataError, match=f"^{tmp_path / 'a'} is a cut of itself: its recipe leads back to it$"):
        load_pruned(tmp_path / "a")
    for number in range(25):
        recipe(tmp_path / str(number), model={"use": "pruned", "path": str(tmp_path / str(number + 1))})
    with pytest.raises(DataError, match="is a cut of a cut, 20 times over"):
        load_pruned(tmp_path / "0")


@pytest.mark.parametrize("trust", [False, True])
def test_own_models_open(trust: bool, tmp_path: Path) -> None:
    """Of a source that names no code without trust, of a factory with it, or with the dense model."""
    ctx = SourceContext(folder=tmp_path, cache=tmp_path, seed=3)
    for source in (DigitsCnn(width=2), Factory(target="torch.nn:Linear", args={"in_features": 2, "out_features": 3})):
        network = source.build(ctx).eval()
        write_pruned(tmp_path / "m", network, plan=Plan({}), kept={}, cut_units={}, source=source, ctx=ctx)
        if source.runs_named_code and not trust:
            opened = load_pruned(tmp_path / "m", dense=source.build(ctx))
        else:
            opened = load_pruned(tmp_path / "m", trust=trust)
        state = opened.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
