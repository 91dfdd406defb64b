"""For all tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests run side by side, and two OpenMP pools on two busy cores make small nets ten times slower. Before torch is
# imported, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Of whoever runs the tests: in the tests' own cache, below, fonts would be looked for anew.
os.environ.setdefault(
    "MPLCONFIGDIR", str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "matplotlib")
)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for the session, its workers and all processes that they start: the digits' model is trained once."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder / "cache"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database that has MLflow's tables, which take it seconds to make; to be copied."""
    from autoprune.tracking._store import Store, quietly

    file = tmp_path_factory.mktemp("database") / "mlflow.db"
    with quietly():
        Store(f"sqlite:///{file}").checkpoint()
    return file


@pytest.fixture(scope="session")
def quick_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A program that runs modules as Python does, but has PyTorch already: see `tests.zygote`."""
    from tests.zygote import quick_python

    with quick_python(tmp_path_factory.mktemp("quick")) as program:
        yield program


@pytest.fixture(scope="module")
def quick_workers(quick_python: str) -> Iterator[str]:
    """Worker processes do not load PyTorch each for itself; gives the Python with which they would."""
    with pytest.MonkeyPatch.context() as patch:
        python = sys.executable
        patch.setattr("sys.executable", quick_python)
        yield python
