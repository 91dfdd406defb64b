"""Whether MLflow is there and the default tracking store can be used."""

from __future__ import annotations

import importlib.util

from autoprune.spec.secrets import masked
from autoprune.tracking._store import Store, quietly
from autoprune.tracking._uri import default_uri, sqlite_file

MISSING = "MLflow is not installed: pip install 'autoprune[mlflow]'"


def installed() -> bool:
    """Whether MLflow could be imported; it is not, which takes seconds."""
    return importlib.util.find_spec("mlflow") is not None


def check_store() -> str:
    """Ask the store that a spec without ``tracking.uri`` uses; a database file that is not there yet is not made.

    Returns:
        What was found, in words; that MLflow is not installed is no fault.

    Raises:
        Exception: Whatever MLflow raises.
    """
    if not installed():
        return f"nothing is tracked: {MISSING}"
    uri = default_uri()
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        return f"{masked(uri, whole=True)} will be created by the first search"
    with quietly():
        Store(uri).runs("0", "autoprune", "any")  # the cheapest question
    return f"{masked(uri, whole=True)} answers"
