"""Files that were changed at random open, or are refused in words: no traceback, no hang, nothing written, nothing run.

``AUTOPRUNE_FUZZ=20000`` runs as many of each kind; ``python -m tests.fuzz specs 20000`` of one, and tells what it saw.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .guard import opened
from .targets import TARGETS, Target

COUNTS = {"specs": 40, "recipes": 15, "programs": 10, "data": 15, "studies": 10}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return {name: kind(tmp_path_factory.mktemp(name)) for name, kind in TARGETS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_what_was_changed_opens_or_is_refused(
    name: str, targets: dict[str, Target], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, folder = targets[name], place / name
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)

    @settings(
        max_examples=int(os.environ.get("AUTOPRUNE_FUZZ", COUNTS[name])),
        deadline=None,
        database=None,
        derandomize="AUTOPRUNE_FUZZ" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def fuzz(random: Random) -> None:
        target.lay(folder, target.changed(random))
        opened(lambda: target.open(folder), folder)

    fuzz()


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_what_was_not_changed_opens(name: str, targets: dict[str, Target], place: Path) -> None:
    for number, files in enumerate(targets[name].good):
        folder = place / f"good-{name}-{number}"
        folder.mkdir()
        targets[name].lay(folder, files)
        if name != "specs":  # of some the model is not there
            assert opened(lambda folder=folder: targets[name].open(folder), folder) == ""
