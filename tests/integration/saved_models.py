"""Checks the models that a study saved, each in a process of its own.

    python -m tests.integration.saved_models runs/cifar10-resnet20-1

prints, for every member of the front, the share of the dense MACs, the accuracy on the test split as the study recorded
it and as the opened model has it, and how far the bare cut (before recovery) is from the masked dense model.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from autoprune import load_pruned
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Costs
from autoprune.structure import read_recipe
from autoprune.study import Problem, read_study, resolve
from autoprune.study.predictor import Predictor
from tests.fresh import returned


def recorded(study: Path) -> dict[int, float]:
    """Test accuracy of every member of the front, as the study recorded it."""
    return {point.trial.number: point.test["accuracy"].value for point in read_study(study).front.points}


def opened(study: Path, number: int) -> dict[str, Any]:
    """The same from the saved model, opened in a new process, and the parity of its cut."""
    result: dict[str, Any] = returned(measured, study, number)
    return result


def measured(study: Path, number: int) -> dict[str, Any]:
    """What is found in this process."""
    problem = resolve(read_study(study).study.spec, PluginHost())
    folder = study / "models" / str(number)
    model = Predictor(load_pruned(folder, trust=True), problem.data.normalization)
    right = 0
    with torch.no_grad():
        for inputs, targets in problem.data.test.batches(500):
            right += int((inputs.feed(model).argmax(1) == targets).sum())
    return {
        "accuracy": right / len(problem.data.test),
        "deviation": _deviation(problem, folder),
        "macs": _costs(problem, folder).macs / problem.structure.costs().macs,
        "zeros": sum(int((p == 0).sum()) for p in model.parameters()),
    }


def _costs(problem: Problem, folder: Path) -> Costs:
    recipe = read_recipe(folder)
    return problem.structure.costs(recipe.cut_units, recipe.bypassed)


def _deviation(problem: Problem, folder: Path) -> float:
    """Largest difference between the bare cut and the masked dense model, over 256 test samples."""
    kept = {name: torch.tensor(units) for name, units in read_recipe(folder).groups.items()}
    cut = Predictor(problem.structure.cut(problem.network, kept), problem.data.normalization).eval()
    masked = Predictor(problem.structure.masked(problem.network, kept), problem.data.normalization).eval()
    inputs, _ = next(problem.data.test.batches(256))
    with torch.no_grad():
        return float((inputs.feed(cut) - inputs.feed(masked)).abs().max())


def _print_table(study: Path) -> None:
    print("trial  MACs    accuracy recorded  opened   deviation of the cut")
    for number, accuracy in recorded(study).items():
        found = opened(study, number)
        macs, again, deviation = found["macs"], found["accuracy"], found["deviation"]
        print(f"{number:5}  {macs:6.3f}  {accuracy:.4f}             {again:.4f}   {deviation:.1e}")


if __name__ == "__main__":
    _print_table(Path(sys.argv[1]))
