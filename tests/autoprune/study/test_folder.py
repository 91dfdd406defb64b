"""The folder of a study: what it keeps so that workers and later sessions find the same components."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from autoprune.errors import PluginError
from autoprune.host.binding import bind, load_spec
from autoprune.host.plugins import PluginHost
from autoprune.study.folder import StudyFolder

SPEC = """\
name: kept
plugins: [parts/mine.py]
model: {use: digits-cnn}
data: {use: digits}
scorer: {use: my-scorer}
strategy: {use: one-shot, recover: {use: my-recovery}}
evaluators: [{use: params}]
objectives: {params: minimize}
output: study
"""
SCORER = """
from autoprune.plugin import Scorer

class Mine(Scorer):
    name = "my-scorer"
    power: int = POWER
    def score(self, group, ctx): ...
"""
RECOVERY = """
from autoprune.plugin import Recovery

class Mine(Recovery):
    name = "my-recovery"
    def recover(self, pruned, ctx): ...
"""


@pytest.fixture
def made(tmp_path: Path) -> Callable[[], StudyFolder]:
    """Makes a study whose spec names one plugin file, and whose user gave another of the same name."""
    for name, source in (("parts", SCORER.replace("POWER", "1")), ("more", RECOVERY)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(source)
    (tmp_path / "spec.yaml").write_text(SPEC)

    def make() -> StudyFolder:
        host = PluginHost()
        spec = load_spec(tmp_path / "spec.yaml", host=host, plugins=[tmp_path / "more" / "mine.py"])
        return StudyFolder.create(spec, host)

    return make


def test_it_keeps_copies_of_all_plugin_files(made: Callable[[], StudyFolder], tmp_path: Path) -> None:
    folder = made()
    assert {path.name: path.read_text() for path in folder.plugin_files} == {
        "mine.py": RECOVERY,
        "mine-2.py": SCORER.replace("POWER", "1"),
    }
    assert StudyFolder.open(folder.path) == folder
    assert (folder.path / "spec.yaml").read_text() == SPEC


@pytest.mark.parametrize("fate", ["gone", "changed", "as it was"])
def test_later_sessions_have_the_copies_whatever_became_of_the_files(
    fate: str, made: Callable[[], StudyFolder], tmp_path: Path
) -> None:
    folder = made()
    for file in tmp_path.glob("*/mine.py"):
        if file.parent.name in ("parts", "more") and fate == "gone":
            file.unlink()
        elif file.parent.name == "parts" and fate == "changed":
            file.write_text(SCORER.replace("POWER", "2"))
    host = PluginHost()
    spec = StudyFolder.open(folder.path).spec(host)
    assert spec.plugins == ["parts/mine.py"]
    components = bind(spec, host)
    assert components.scorers[0].component.reference() == {"use": "my-scorer", "power": 1}
    assert components.strategies[0].component.reference()["recover"] == [{"use": "my-recovery"}]
    assert bind(spec, PluginHost()).scorers[0].component == components.scorers[0].component
    assert set(host.provider(type(components.scorers[0].component)).file.parents) & {folder.path}


def test_the_session_that_made_it_goes_on_with_what_it_has(made: Callable[[], StudyFolder], tmp_path: Path) -> None:
    host = PluginHost()
    spec = load_spec(tmp_path / "spec.yaml", host=host, plugins=[tmp_path / "more" / "mine.py"]) if made() else None
    assert spec is not None
    (tmp_path / "study").rename(tmp_path / "moved")
    folder = StudyFolder.open(tmp_path / "moved")
    assert folder.spec(host) == spec
    assert len(host.files) == 2


def test_a_copy_that_is_gone_is_told_of(made: Callable[[], StudyFolder]) -> None:
    folder = made()
    folder.plugin_files[0].unlink()
    with pytest.raises(PluginError, match=r"plugins/mine\.py: cannot be read: No such file or directory"):
        folder.spec(PluginHost())
