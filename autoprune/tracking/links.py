"""Where MLflow shows a study."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from autoprune.errors import TrackingError
from autoprune.plugin.results import StudyInfo
from autoprune.spec.secrets import masked
from autoprune.tracking._state import noted, own_uri
from autoprune.tracking._uri import default_uri, page_base, sqlite_file, ui_command
from autoprune.tracking._view import view_query
from autoprune.tracking.health import MISSING, installed


@dataclass(frozen=True)
class Place:
    """A page of MLflow's."""

    uri: str
    """Of the store."""
    path: str
    """Of the page, from the server's address."""
    base: str | None
    """Address of a server that runs by itself; None for a database, for which one is to be started."""


def shown_at(study: StudyInfo) -> str | None:
    """The address of a study's view, or the command that shows it; None while MLflow has nothing of it."""
    run = noted(study.folder)
    if not study.spec.tracking.enabled or not {"run_id", "experiment_id"} <= run.keys():
        return None
    uri = own_uri(study)
    base = page_base(uri)
    if base is None:
        return None
    if ui_command(uri) is not None:
        return f"autoprune ui {shlex.quote(str(near(study.folder)))}"
    return f"{base}/#/experiments/{run['experiment_id']}/runs?{view_query(run['run_id'])}"


def facts_of(uri: str, *, experiment: str, run: str) -> dict[str, str]:
    """What a user should know of where a study is recorded: ids, and links or the command that shows it."""
    facts = {"run_id": run, "experiment_id": experiment, "tracking_uri": masked(uri, whole=True)}
    if base := page_base(uri):
        runs = f"{base}/#/experiments/{experiment}/runs"
        view = f"{runs}?{view_query(run)}"
        if command := ui_command(uri):
            facts["hint"] = f"{command}  # then open {view}"
        else:
            facts |= {"url": f"{runs}/{run}?workflowType=machine_learning", "view": view}
    return facts


def near(path: Path) -> Path:
    """Relative to the current folder where it is inside."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def place(study: StudyInfo | None) -> Place:
    """The view of a study; without one, the experiments of the default store.

    Raises:
        TrackingError: MLflow has nothing of the study, or there is no such store or none with pages.
    """
    uri = default_uri() if study is None else own_uri(study)
    run = {} if study is None else noted(study.folder)
    if study is not None and not {"run_id", "experiment_id"} <= run.keys():
        raise TrackingError(f"MLflow has nothing of study {study.name} yet; autoprune sync {study.folder} sends it")
    if (base := page_base(uri)) is None:
        raise TrackingError(f"{masked(uri, whole=True)} is neither a database nor an HTTP server: there are no pages")
    path = "/#/experiments?workflowType=machine_learning"
    if study is not None:
        path = f"/#/experiments/{run['experiment_id']}/runs?{view_query(run['run_id'])}"
    if ui_command(uri) is None:
        return Place(uri, path, base)
    if not installed():
        raise TrackingError(MISSING)
    if (file := sqlite_file(uri)) and not file.exists():
        raise TrackingError(f"there is no database at {file}; name a study, or set MLFLOW_TRACKING_URI")
    return Place(uri, path, None)
