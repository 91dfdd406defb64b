"""A few of the thirty models that nobody chose: searched, saved and opened with the same predictions."""

from __future__ import annotations

from pathlib import Path

import pytest

from .any_model import good, searched
from .any_model_cases import cases

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the models' own


@pytest.mark.parametrize("name", ["modernbert", "ctrl", "test_vit"])
def test_a_model_that_nobody_chose(name: str, tmp_path: Path) -> None:
    row = searched(next(case for case in cases() if case.name == name), tmp_path)
    assert good(row), row
    assert row["groups"] > 1
    assert row["left"] < 0.5
    assert row["pretrained"] in ("–", "refuses", "opens it")
