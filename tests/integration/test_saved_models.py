"""Every model of a front opens in a new process and predicts as it did in the search."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprune import search
from autoprune.host.binding import load_spec

from .conftest import SPEC
from .saved_models import opened, recorded


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    settings = ("output=study", "tracking.enabled=false", "search.trials=6")
    return search(load_spec(folder / "spec.yaml", overrides=settings)).study.folder


@pytest.mark.slow
def test_front_models_predict_as_recorded_and_their_cuts_equal_the_masked_model(study: Path) -> None:
    front = recorded(study)
    assert len(front) >= 3
    for number in list(front)[:2]:
        found = opened(study, number)
        assert found["accuracy"] == front[number]
        assert found["deviation"] < 1e-4
        assert (found["macs"] < 1) == (number != 0)
