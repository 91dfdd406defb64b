"""What a study's folder says of its run in MLflow."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path

from autoprune.plugin.results import StudyInfo
from autoprune.tracking._uri import tracking_uri

STATE_FILE = "mlflow.json"


def noted(study: Path) -> dict[str, str]:
    """What a folder says, or nothing: ``study`` (its mark), ``run_id``, ``experiment_id`` and ``tracking_uri``."""
    try:
        found = json.loads((study / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}


def note(study: Path, facts: Mapping[str, str]) -> None:
    """Lay facts over what the study's folder says, whole or not at all."""
    study.mkdir(parents=True, exist_ok=True)
    new = study / f"{STATE_FILE}.new"
    new.write_text(json.dumps({**noted(study), **facts}, indent=2) + "\n", encoding="utf-8")
    new.replace(study / STATE_FILE)


def mark_of(study: Path) -> str:
    """By which the study's runs and models are found, kept before the first run is made."""
    if "study" not in noted(study):
        note(study, {"study": uuid.uuid4().hex})
    return noted(study)["study"]


def own_uri(study: StudyInfo) -> str:
    """Where a study is recorded if nobody says."""
    return tracking_uri(study, earlier=noted(study.folder).get("tracking_uri"))
