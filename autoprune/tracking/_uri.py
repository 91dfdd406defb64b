"""Tracking URIs: which one a study uses, and where its pages are."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from autoprune.plugin.results import StudyInfo
from autoprune.spec.secrets import masked, without_user

_SQLITE = "sqlite:///"
_DEFAULT = "sqlite:///mlflow.db"
_UI = "http://127.0.0.1:5000"


def tracking_uri(study: StudyInfo, *, earlier: str | None = None) -> str:
    """The spec's URI, else ``$MLFLOW_TRACKING_URI``, else where an earlier session recorded, else ``mlflow.db``.

    A path that the spec writes is relative to the spec's folder, any other one to the current folder.
    """
    if study.spec.tracking.uri:
        return _absolute(study.spec.tracking.uri, study.spec.document.folder)
    return default_uri(earlier=earlier)


def default_uri(*, earlier: str | None = None) -> str:
    """Where a study is recorded whose spec does not say."""
    return _absolute(os.environ.get("MLFLOW_TRACKING_URI") or earlier or _DEFAULT, Path.cwd())


def given_uri(uri: str) -> str:
    """One that a command was given: a path in it is relative to the current folder."""
    return _absolute(uri, Path.cwd())


def artifact_location(uri: str) -> str | None:
    """``mlartifacts`` beside a SQLite file; elsewhere the server or MLflow decides."""
    path = sqlite_file(uri)
    return (path.parent / "mlartifacts").as_uri() if path else None


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite database; None for other stores."""
    path = uri.removeprefix(_SQLITE).partition("?")[0] if uri.startswith(_SQLITE) else ""
    return Path(path) if path and path != ":memory:" else None


def page_base(uri: str) -> str | None:
    """Address of the web pages: the server's, or what ``mlflow ui`` serves for a database; None for other stores."""
    parts = urlsplit(without_user(uri))
    if parts.scheme in ("http", "https"):
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    return _UI if _is_database(uri) else None


def ui_command(uri: str) -> str | None:
    """The command that serves a database's pages; None where a server does so already."""
    return f"mlflow ui --backend-store-uri '{masked(uri, whole=True)}'" if _is_database(uri) else None


def _is_database(uri: str) -> bool:
    return uri.partition(":")[0].split("+")[0] in ("sqlite", "postgresql", "mysql", "mssql")


def _absolute(uri: str, folder: Path) -> str:
    if path := sqlite_file(uri):
        _, mark, query = uri.partition("?")
        return f"{_SQLITE}{(folder / path).resolve()}{mark}{query}"
    return uri
