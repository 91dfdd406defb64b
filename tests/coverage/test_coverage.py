"""A few rows of the coverage table: what is offered is exact, counted right and trains on."""

from __future__ import annotations

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
)


def _check(case: Case) -> None:
    row: Row = {}
    for piece in ours(case, case.network()):
        row |= piece
    assert row["groups"] > 0
    assert row["share"] > _WHOLE
    assert row["parity"] < PARITY
    assert row["params_equal"]
    assert row["trains"]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_own(case: Case) -> None:
    _check(case)


@pytest.mark.slow
@pytest.mark.parametrize("key", _ZOO)
def test_zoo(key: str) -> None:
    _check(next(case for case in cases(key.partition("/")[0]) if case.key == key))
