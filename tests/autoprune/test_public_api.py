"""The public Python API: a change here is a change for every user."""

from __future__ import annotations

import subprocess
import sys

import autoprune

PUBLIC = [
    "AutopruneError",
    "DataError",
    "NoFeasibleTrialError",
    "PluginError",
    "SearchResult",
    "SpecError",
    "StructureError",
    "StudyError",
    "TrialError",
    "discover",
    "hookimpl",
    "load_program",
    "load_pruned",
    "load_spec",
    "open",
    "resume",
    "save_program",
    "save_pruned",
    "search",
    "spec_from_mapping",
]


def test_the_names_are_these_and_all_are_there() -> None:
    assert autoprune.__all__ == PUBLIC
    assert all(callable(getattr(autoprune, name)) for name in PUBLIC)


def test_importing_it_is_light() -> None:
    code = "import sys, autoprune; print({'torch', 'optuna', 'mlflow', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
