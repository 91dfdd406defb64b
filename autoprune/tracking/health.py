"""Whether the default tracking store can be used, for `autoprune doctor`."""

from __future__ import annotations

from autoprune.spec.secrets import masked
from autoprune.tracking._store import Store, quietly
from autoprune.tracking._uri import default_uri, sqlite_file


def check_store() -> str:
    """Ask the store that a spec without ``tracking.uri`` uses; a database file that is not there yet is not made.

    Returns:
        What was found, in words.

    Raises:
        Exception: Whatever MLflow raises.
    """
    uri = default_uri()
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        return f"{masked(uri, whole=True)} will be created by the first search"
    with quietly():
        Store(uri).runs("0", "autoprune", "any")  # the cheapest question
    return f"{masked(uri, whole=True)} answers"
