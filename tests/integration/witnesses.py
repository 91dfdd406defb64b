"""What the plugin ``witness`` kept of searches, and what their saved models say in a new process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import autoprune
from tests.fresh import returned

PLUGINS = Path(__file__).with_name("plugins")


@dataclass(frozen=True)
class Watched:
    """A search that the evaluator ``witness`` took part in."""

    result: autoprune.SearchResult
    witnesses: Path
    """Where it kept what it saw."""

    @property
    def kept(self) -> dict[int, Tensor]:
        """What the models of the front said when they were measured, by the trial's number."""
        found = {}
        for point in self.result.front.points:
            digits = f"{round(point.trial.metrics['witness'].value * 16**12):012x}"
            found[point.trial.number] = load_file(self.witnesses / f"{digits}.safetensors")["outputs"]
        return found


def check_saved_models(*searches: Watched, scratch: Path) -> None:
    """Every model of every front says in one new process what it said in the search.

    Args:
        searches: At least two saved models of each are wanted, for the check to mean anything.
        scratch: A folder to write in.
    """
    outputs = scratch / "anew.safetensors"
    models = {
        f"{n}.{number}": (search.witnesses / "inputs.safetensors", search.result.models[number])
        for n, search in enumerate(searches)
        for number in search.kept
    }
    returned(write_predictions, models, outputs)
    anew = load_file(outputs)
    for n, search in enumerate(searches):
        assert len(search.kept) >= 2, [trial.reason for trial in search.result.outcome.trials]
        for number, before in search.kept.items():
            told = f"{search.result.study.name}: trial {number}"
            torch.testing.assert_close(anew[f"{n}.{number}"], before, rtol=1e-5, atol=1e-5, msg=told)


def _said(model: Path, given: Mapping[str, Tensor]) -> Tensor:
    recipe: dict[str, Any] = json.loads((model / "recipe.json").read_text())
    tensors = dict(given)
    if recipe["mean"] is not None:  # of the one input
        mean, std = (torch.tensor(recipe[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
        tensors["0"] = (tensors["0"] - mean) / std
    args = [tensors.pop(name) for name in sorted(tensors) if name.isdecimal()]
    with torch.no_grad():
        said: Tensor = autoprune.load_pruned(model, trust=True)(*args, **tensors)
    return said.contiguous()


def write_predictions(models: Mapping[str, tuple[Path, Path]], outputs: Path) -> None:
    """Write what saved models say of inputs, opened by ``autoprune.load_pruned`` and nothing else."""
    save_file({key: _said(model, load_file(inputs)) for key, (inputs, model) in models.items()}, outputs)
