"""An observer that keeps a table, and an exporter for whoever has NumPy alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from torch import nn

from autoprune.plugin import (
    Artifact,
    ExportContext,
    Exporter,
    Inputs,
    Observer,
    ObserverContext,
    StudyInfo,
    TrialResult,
)


class Csv(Observer):
    """A line per trial in ``trials.csv`` of its own folder, one after the other session."""

    name = "csv"

    def study_started(self, study: StudyInfo, ctx: ObserverContext) -> dict[str, str]:
        file = ctx.folder / "trials.csv"
        if not file.exists():
            _append(file, ["number", "state", *study.objectives])
        return {"csv": str(file)}

    def trial_finished(self, study: StudyInfo, result: TrialResult, ctx: ObserverContext) -> None:
        values = [result.metrics[name].value if name in result.metrics else "" for name in study.objectives]
        _append(ctx.folder / "trials.csv", [result.number, result.state, *values])


class Npz(Exporter):
    """The weights as ``weights.npz``, and their shapes and what the model says of the examples as ``model.json``."""

    name = "npz"

    def export(self, model: nn.Module, examples: Inputs, folder: Path, ctx: ExportContext) -> Artifact:
        state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        np.savez(folder / "weights.npz", **state)
        told = {"shapes": {name: array.shape for name, array in state.items()}, "task": ctx.task.name}
        (folder / "model.json").write_text(json.dumps(told | {"said": examples.feed(model).tolist()}))
        return Artifact(folder / "weights.npz", "NumPy's own format: np.load")


def _append(file: Path, row: list[object]) -> None:
    with file.open("a", newline="") as opened:
        csv.writer(opened).writerow(row)
