from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
import torch

from autoprune.plugin import Data, SourceContext, Split


@pytest.fixture
def ctx(tmp_path):
    """A spec's folder and a cache, both empty."""
    folder, cache = tmp_path / "spec", tmp_path / "cache"
    folder.mkdir()
    return SourceContext(folder=folder, cache=cache, seed=0)


@pytest.fixture(scope="session")
def shared():
    """Folder of the real data and models; a missing one fails the test."""
    root = Path(__file__).parents[3]
    folder = (root / os.environ.get("AUTOPRUNE_DATA", "../shared")).resolve()
    assert folder.is_dir(), f"{folder} is missing; point AUTOPRUNE_DATA to the real data"
    return folder


@pytest.fixture
def contents():
    """A split as a multiset of its samples."""

    def of(split: Split) -> Counter:
        inputs, targets = split.fetch(torch.arange(len(split)))
        return Counter((x.numpy().tobytes(), int(y)) for x, y in zip(inputs.first, targets, strict=True))

    return of


@pytest.fixture
def check_distinct(contents):
    """Data whose samples all differ: the splits share none, and hold so many in all."""

    def check(data: Data, total: int) -> None:
        train, validation, test = (contents(data.split(name)) for name in ("train", "validation", "test"))
        assert not train & validation
        assert not train & test
        assert not validation & test
        assert sum((train + validation + test).values()) == total
        assert max((train + validation + test).values()) == 1

    return check
