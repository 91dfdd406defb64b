"""A few rows of the coverage table: what is offered is exact, counted right and trains on."""

from __future__ import annotations

from pathlib import Path

import pytest

from .measure import Row, ours
from .table import PARITY
from .zoo import Case, cases
from .zoo_own import CASES

pytestmark = pytest.mark.filterwarnings("ignore")  # the models' own

_WHOLE = 0.6
"""Share of parameters that must be cuttable in every one of them."""

_ZOO = (
    "torchvision/resnet18",
    "torchvision/mobilenet_v3_small",
    "timm/vit_tiny_patch16_224",
    "timm/convnext_atto",
    "timm/swin_tiny_patch4_window7_224",
    "transformers/bert",
    "transformers/llama",
    "written/dlrm",
    "written/gin",
    "written/clip",
    "written/s4d",
)


def _check(case: Case, folder: Path) -> None:
    row: Row = {}
    for piece in ours(case, case.network(), folder):
        row |= piece
    assert row["groups"] > 0
    assert row["share"] > _WHOLE
    assert row["parity"] < PARITY
    assert row["params_equal"]
    assert row["trains"]
    assert row["train_parity"] == "the dense one does not run" or row["train_parity"] < PARITY
    assert row["resized"] in ("the dense one takes none", "refused") or row["resized"] < PARITY
    assert "opened" not in row, "it is saved"


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_own(case: Case, tmp_path: Path) -> None:
    _check(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("key", _ZOO)
def test_zoo(key: str, tmp_path: Path) -> None:
    _check(next(case for case in cases(key.partition("/")[0]) if case.key == key), tmp_path)


@pytest.mark.slow
def test_as_many_architectures_as_the_pages_say() -> None:
    """The table was made of all of them, and says of as many rows what they are."""
    count, root = len(cases()), Path(__file__).parents[2]
    page = (root / "docs" / "measured" / "coverage.md").read_text(encoding="utf-8")
    assert f"- {count} architectures." in page
    tables = page[: page.index("## What fails")]
    assert sum(line.startswith("| ") for line in tables.splitlines()) == count + tables.count("| family |")
    for name in ("README.md", "CONTRIBUTING.md", "docs/README.md"):
        assert f" {count} architectures" in (root / name).read_text(encoding="utf-8")
