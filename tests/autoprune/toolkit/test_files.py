from __future__ import annotations

from pathlib import Path

import pytest

from autoprune.toolkit.files import found_paths


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").touch()
    return tmp_path


def test_what_exists_beside_the_spec_is_its_full_path(folder, monkeypatch):
    args = {"path": "data/train.csv", "root": "data", "many": ["data", {"deep": "data/train.csv"}]}
    full = str(folder / "data")
    expected = {"path": f"{full}/train.csv", "root": full, "many": [full, {"deep": f"{full}/train.csv"}]}
    assert found_paths(args, folder) == expected
    monkeypatch.chdir(folder)  # found beside the spec, not where the command runs
    (folder / "elsewhere").mkdir()
    assert found_paths(args, folder / "elsewhere") == args
    assert found_paths({"path": str(folder / "data")}, folder / "elsewhere") == {"path": full}


@pytest.mark.parametrize("value", ["relu", "", "data/test.csv", "a\0b", "x" * 5000, 3, 0.5, None, True])
def test_everything_else_stays_as_it_is(folder, value):
    assert found_paths({"value": value}, folder) == {"value": value}


def test_a_relative_folder_gives_absolute_paths(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert found_paths({"path": "data"}, Path()) == {"path": str(folder / "data")}
