"""One of the thirty models that nobody chose: searched, saved and opened with the same predictions."""

from __future__ import annotations

from pathlib import Path

import pytest

from .any_model import good, searched
from .any_model_cases import AnyModel

CASES = (AnyModel("huggingface", "AutoModelForCausalLM", "ctrl"),)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the models' own
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_model_that_nobody_chose(case: AnyModel, tmp_path: Path) -> None:
    row = searched(case, tmp_path)
    assert good(row), row
    assert row["groups"] > 1
    assert row["left"] < 0.5
    assert row["pretrained"] in ("–", "refuses", "opens it")
