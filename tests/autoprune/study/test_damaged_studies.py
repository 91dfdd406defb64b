"""The files of a study that say what cannot be are one line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from autoprune.errors import StudyError
from autoprune.study import read_study, search
from autoprune.study.folder import StudyFolder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a study is kept as it was; made by the first test that asks for it."""
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def study(whole: Path, spec, host, tmp_path: Path) -> Path:
    if not (whole / "study").exists():
        search(spec("search.trials=4", folder=whole), host=host)
    return Path(shutil.copytree(whole / "study", tmp_path / "study"))


def changed(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def refused(study: Path, host, message: str) -> None:
    with pytest.raises(StudyError, match=message) as error:
        read_study(study, host=host)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 900


def test_the_whole_one_is_read(study: Path, host) -> None:
    assert len(read_study(study, host=host).outcome.trials) == 4


def test_a_study_is_where_it_was_moved_to(study: Path, whole: Path, host) -> None:
    result = read_study(study, host=host)
    assert json.loads((study / "info.json").read_text())["folder"] == str(whole / "study"), "where it was made"
    assert result.study.folder == study
    assert result.models
    assert all(model.is_relative_to(study) for model in result.models.values())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": 1}, "study.json is malformed: name"),
        ({"trials": -1}, "study.json is malformed: trials"),
        ({"trials": 10**400}, "study.json is malformed: trials"),
        ({"plugins": ["../other.py"]}, r"study.json is malformed: plugins\.0"),
        ({"plugins": ["/tmp/other.py"]}, r"study.json is malformed: plugins\.0"),
        ({"overrides": [1]}, "study.json is malformed: overrides"),
        ({"more": 1}, "study.json is malformed: more"),
    ],
)
def test_what_was_asked(values: dict[str, object], message: str, study: Path, host) -> None:
    changed(study / "study.json", **values)
    refused(study, host, message)


@pytest.mark.parametrize("name", ["study.json", "info.json"])
@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"a": NaN}', '{"a": %s}' % ("9" * 5000), "\0"])
def test_other_texts(name: str, text: str, study: Path, host) -> None:
    (study / name).write_text(text)
    refused(study, host, "is malformed")


def test_what_observers_were_told(study: Path, host) -> None:
    changed(study / "info.json", groups=[{"name": "a"}])
    refused(study, host, "info.json is malformed: groups")
    changed(study / "info.json", groups=[], objectives={"other": "maximize"})
    refused(study, host, "its objectives are not the spec's")
    changed(study / "info.json", objectives={"distance": "minimize", "share": "minimize"}, environment={})
    refused(study, host, "it has no spec_hash")


def test_pipes_are_not_waited_for(study: Path, host) -> None:
    for name, message in (("journal.log", "cannot be read"), ("info.json", "is malformed"), ("study.json", "holds no")):
        (study / name).unlink()
        os.mkfifo(study / name)
        refused(study, host, message)


JOURNALS = {
    "no JSON": "{\n",
    "another": '{"a": 1}\n',
    "a list": "[]\n",
    "of no kind": '{"op_code": 99, "worker_id": "a"}\n',
    "deep": "[" * 100_000 + "\n",
}


@pytest.mark.parametrize("name", JOURNALS)
def test_journals(name: str, study: Path, host) -> None:
    lines = (study / "journal.log").read_text().splitlines(keepends=True)
    (study / "journal.log").write_text("".join([*lines[:3], JOURNALS[name], *lines[3:]]))
    refused(study, host, r"journal\.log (is damaged|cannot be read)")
    (study / "journal.log").write_text("")
    refused(study, host, "has no study called")


def test_results(study: Path, host) -> None:
    text = (study / "journal.log").read_text()
    assert '"state":"complete"' in text
    (study / "journal.log").write_text(text.replace('"state":"complete"', '"state":"other"'))
    refused(study, host, "what is stored of study .* is damaged: state")
    (study / "journal.log").write_text(text.replace('"distance":{"value"', '"other":{"value"'))
    refused(study, host, "is damaged: ValueError: trial 0 has no distance")


def test_a_folder_of_nobodys(host, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="holds no study"):
        StudyFolder.open(tmp_path)
