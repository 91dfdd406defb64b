"""The report as files in the study's folder."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from autoprune.plugin.results import FrontPoint, StudyInfo, StudyOutcome, TrialResult
from autoprune.plugin.values import Measured
from autoprune.report._words import dense_trial
from autoprune.report.figures import front_figure, ratios_figure
from autoprune.report.page import report_page
from autoprune.report.tables import Row, _finite, front_table, trials_table
from autoprune.report.text import markdown, verdict

REPORT_FILES = ("report.md", "report.html", "front.csv", "trials.csv", "front.json", "front.svg", "ratios.svg")
"""Names of all files that a report may have."""


def write_report(folder: Path, study: StudyInfo, outcome: StudyOutcome) -> Path:
    """Write ``report.md``, its figures and the tables behind it, and all of it as one page, ``report.html``.

    Returns:
        The report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in report_files(study, outcome).items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    return folder / "report.md"


def report_files(study: StudyInfo, outcome: StudyOutcome) -> dict[str, str]:
    """The report's files by name."""
    files = {
        "report.md": markdown(study, outcome),
        "report.html": report_page(study, outcome),
        "front.csv": csv_text(front_table(outcome)),
        "trials.csv": csv_text(trials_table(outcome)),
        "front.json": json.dumps(_front(study, outcome), indent=2, allow_nan=False) + "\n",
    }
    if outcome.front.points:
        files["front.svg"] = front_figure(study, outcome)
        files["ratios.svg"] = ratios_figure(study, outcome)
    return files


def csv_text(rows: list[Row]) -> str:
    """Rows as CSV, titles first."""
    if not rows:
        return ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _front(study: StudyInfo, outcome: StudyOutcome) -> dict[str, Any]:
    dense, alike = dense_trial(outcome), outcome.front.alike()
    return {
        "study": study.name,
        "verdict": verdict(study, outcome),
        "objectives": dict(outcome.front.objectives),
        "constraints": study.constraints,
        "units": study.units,
        "hypervolume": outcome.front.hypervolume,
        "reference": outcome.front.reference,
        "interrupted": outcome.interrupted,
        "test_part": outcome.test_part,
        "dense": _member(_dense(dense, outcome)) if dense else None,
        "together": {name: _measured(value) for name, value in outcome.together.items()},
        "front": [_member(point) | {"alike": alike[point.trial.number]} for point in outcome.front.points],
        "environment": study.environment,
    }


def _dense(trial: TrialResult, outcome: StudyOutcome) -> FrontPoint:
    return FrontPoint(trial=trial, test=outcome.dense_test, whole_test=outcome.dense_whole_test)


def _member(point: FrontPoint) -> dict[str, Any]:
    trial = point.trial
    measured = {
        "metrics": trial.metrics,
        "searched": point.searched,
        "test": point.test,
        "whole_test": point.whole_test,
    }
    return {
        "trial": trial.number,
        "origin": trial.origin,
        "scorer": trial.scorer,
        "strategy": trial.strategy,
        "precision": trial.precision,
        "knobs": trial.knobs,
        "seed": trial.seed,
        **{key: {name: _measured(value) for name, value in metrics.items()} for key, metrics in measured.items()},
        "ratios": trial.ratios,
        "achieved": trial.achieved,
        "model": str(trial.model) if trial.model else None,
    }


def _measured(value: Measured) -> dict[str, Any]:
    return {
        "value": _finite(value.value),
        "low": _finite(value.low),
        "high": _finite(value.high),
        "samples": value.samples,
        "difference": value.difference and {name: _finite(end) for name, end in value.difference.model_dump().items()},
    }
