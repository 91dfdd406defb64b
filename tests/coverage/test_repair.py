"""Repair on a few of the coverage table's architectures, and the page about all of them."""

from __future__ import annotations

import pytest

from .repair import measure, page
from .zoo import cases

OWN = {case.key: case for case in cases("own")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "most"),
    [
        ("own/resnet20-option-a", 0.3),
        ("own/encoder-layers", 0.3),
        ("own/lstm-classifier", 0.3),
        ("own/autoencoder", 0.6),  # as an exported graph
        ("own/window-attention", 0.3),
    ],
)
def test_outputs_are_nearer_to_the_dense_ones(key: str, most: float) -> None:
    row = measure(OWN[key])
    assert row["form"] == ("graph" if key == "own/autoencoder" else "modules")
    assert row["repaired"] < most * row["cut"]


def test_the_page_counts_what_got_worse() -> None:
    good = {"form": "modules", "groups": 2, "cut": 2.0, "recalibrated": 3.0, "repaired": 0.5, "repaired_s": 1.0}
    rows = [
        {"key": "own/a", **good},
        {"key": "own/b", **good, "repaired": 2.2, "form": "graph"},
        {"key": "own/c", "error": "no (/home/me/lib/site-packages/timm/models.py:3)"},
        {"key": "own/d", **good, "repaired": 2.0},
    ]
    text = page(rows)
    assert "3 of 4 architectures were run" in text
    assert "worst 1.10; above 1: 1; left as cut, since no fit was\n  possible, or better on other samples: 1." in text
    assert "| own/b, as a graph | 2 | 2 | 1.500 | 1.100 | 1.0 s |" in text
    assert "| own/c | | no (timm/models.py:3) | | | |" in text
