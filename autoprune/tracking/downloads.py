"""Saved models that MLflow has, brought to this machine."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from autoprune.errors import StructureError
from autoprune.spec.secrets import masked
from autoprune.tracking._store import cause_of, quietly
from autoprune.tracking._uri import sqlite_file
from autoprune.tracking.health import MISSING, installed
from autoprune.tracking.pyfunc import FOLDER


def downloaded(uri: str) -> Path:
    """The folder of a saved model.

    Args:
        uri: ``runs:/…`` or ``models:/…``, in the store that MLflow is set to.

    Returns:
        It is there until the process ends.

    Raises:
        StructureError: MLflow is not installed, or does not give the files.
    """
    if not installed():
        raise StructureError(f"{uri}: {MISSING}")
    try:
        with quietly():
            import mlflow

            store = mlflow.get_tracking_uri()
            file = sqlite_file(store)
            if file is not None and not file.exists():  # MLflow would make it, and say that it has no such run
                raise StructureError(_missing(uri, store, "there is no such file"))
            into = tempfile.mkdtemp(dir=_folder())
            try:
                found = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=into))
            except Exception as error:  # whatever MLflow raises
                raise StructureError(_missing(uri, store, cause_of(error, store))) from error
    except ImportError as error:
        raise StructureError(f"{uri}: MLflow cannot be imported: {error}") from error
    return found / FOLDER if (found / FOLDER).is_dir() else found


def _missing(uri: str, store: str, cause: str) -> str:
    told = f"{uri} cannot be had of MLflow at {masked(store, whole=True)}: {cause}"
    return f"{told}; if it is in another store, say so by MLFLOW_TRACKING_URI or mlflow.set_tracking_uri"


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="autoprune-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
