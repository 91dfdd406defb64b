"""The front's models in forms for elsewhere, each beside the saved model that it was made of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoprune.errors import TrialError
from autoprune.plugin import Artifact, ExportContext, Exporter
from autoprune.structure.graph.outputs import counting
from autoprune.study.jobs import Export, Exported
from autoprune.study.naming import numbered
from autoprune.study.problem import Problem
from autoprune.study.stages import Stages

EXPORTS_FOLDER = "exports"


def export(problem: Problem, job: Export) -> Exported:
    """Have an exporter write a saved model, whole or not at all.

    Its files are in ``exports/<name>/`` of the model's folder; ``exports/<name>.json`` says which one to open, and with
    which options they were made.
    """
    exporter, stages = numbered(problem.components.exporters)[job.exporter], Stages(problem.device)
    folder = job.model / EXPORTS_FOLDER
    unfinished, finished = folder / f".{job.exporter}", folder / job.exporter
    try:
        network = problem.opened(job.model).cpu()
        for old in (unfinished, finished):
            shutil.rmtree(old, ignore_errors=True)
        unfinished.mkdir(parents=True)
        context = ExportContext(normalization=problem.data.normalization, task=problem.components.task)
        # Caches and what else nobody asked for is not exported.
        with stages.stage("export", exporter), counting(network, problem.components.task.pick):
            made = exporter.export(network, problem.structure.example.to("cpu"), unfinished, context)
            file = checked_artifact(made, unfinished)
        unfinished.rename(finished)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - components may raise anything
        return Exported(number=job.number, exporter=job.exporter, reason=stages.reason(error))
    written = {"exporter": exporter.reference(), "file": file.as_posix(), "description": made.description}
    (folder / f"{job.exporter}.json").write_text(json.dumps(written, indent=1), encoding="utf-8")
    return Exported(number=job.number, exporter=job.exporter)


def missing_exports(model: Path, exporters: Mapping[str, Exporter]) -> list[str]:
    """Names of the exporters that have not written a model yet, or did with other options."""
    written = _written(model)
    return [name for name, each in exporters.items() if written.get(name, {}).get("exporter") != each.reference()]


def read_exports(model: Path) -> dict[str, Artifact]:
    """What exporters wrote of a saved model, by their names in the study."""
    folder = model / EXPORTS_FOLDER
    return {
        name: Artifact(path=folder / name / written["file"], description=written["description"])
        for name, written in _written(model).items()
    }


def _written(model: Path) -> dict[str, dict[str, Any]]:
    files = sorted((model / EXPORTS_FOLDER).glob("*.json"), key=lambda file: file.stem)
    whole = [file for file in files if file.with_suffix("").is_dir()]
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in whole}


def checked_artifact(made: object, folder: Path) -> Path:
    """Where in its folder an exporter's artifact is.

    Raises:
        TrialError: It is none, is not there or lies elsewhere.
    """
    if not isinstance(made, Artifact):
        raise TrialError(f"returned a {type(made).__name__}, not an Artifact")
    path = Path(made.path)
    if not path.is_relative_to(folder):
        raise TrialError(f"wrote {path}, which is not in the folder that it was given")
    if not path.exists():
        raise TrialError(f"says that it wrote {path.name}, which is not there")
    return path.relative_to(folder)
