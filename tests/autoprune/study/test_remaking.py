"""Models of trials that are not on the front, made again: they are what the search measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprune.errors import StudyError
from autoprune.study import SearchResult, read_study, search
from autoprune.study.remaking import remake

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def result(kept: Path, spec, host) -> SearchResult:
    """A study that is made by the first test that asks for it; some trials break its constraint."""
    if not (kept / "study").exists():
        search(spec("search.trials=12", 'constraints={"distance": "<= 0.05"}', folder=kept), host=host)
    return read_study(kept / "study", host=host)


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_it_is_what_the_search_had_measured(result: SearchResult, host, tmp_path: Path) -> None:
    members = {point.trial.number for point in result.front.points}
    trials = [t for t in result.outcome.trials if t.state == "complete" and t.number not in members]
    broken = [trial for trial in trials if not trial.feasible]
    assert broken, "one that breaks the constraint is made, too"
    before = files(result.study.folder)
    for trial in (broken[0], next(trial for trial in trials if trial.feasible)):
        made = remake(result.study.folder, trial.number, tmp_path / "models" / str(trial.number), host=host)
        assert made.metrics == trial.metrics
        assert made.achieved == trial.achieved
    assert files(result.study.folder) == before
    assert {entry.name for entry in (tmp_path / "models").iterdir()} == {str(broken[0].number), str(trial.number)}


def test_of_a_member_it_is_the_model_that_is_saved(result: SearchResult, host, tmp_path: Path) -> None:
    number, saved = next(iter((n, m) for n, m in result.models.items() if n != 0))
    remake(result.study.folder, number, tmp_path / "again", host=host)
    made = files(tmp_path / "again")
    assert made.keys() == files(saved).keys()
    assert made["weights.safetensors"] == files(saved)["weights.safetensors"]


def test_what_fails_this_time_is_told(result: SearchResult, host, tmp_path: Path, monkeypatch) -> None:
    from autoprune.study import trial as module

    def broken(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(module, "write_pruned", broken)
    with pytest.raises(StudyError, match=r"trial 2 could not be made again: .*the disk is full"):
        remake(result.study.folder, 2, tmp_path / "again", host=host)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
