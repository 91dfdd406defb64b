"""What a notebook's cell shows while a search runs, without a kernel; `tests/integration/test_notebook.py` has one."""

from __future__ import annotations

import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from autoprune.api import notebook, progress, watch
from autoprune.api.notebook import Notebook
from autoprune.api.progress import Display, Lines, Silent, in_notebook, shown
from autoprune.plugin import Front, StudyOutcome
from tests.autoprune.api.test_progress import FAILED, study, trial

DONE = StudyOutcome(trials=(), front=Front(points=(), objectives={}, hypervolume=0, reference={}))


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Everything that a cell was told to show, in a process with a kernel."""
    seen: list[Any] = []

    def display(content: Any, *, display_id: bool) -> Any:
        assert display_id
        seen.append(content)
        return SimpleNamespace(update=seen.append)

    ipython, inner = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    inner.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", inner)
    monkeypatch.setattr(notebook, "_LEAST_S", 0.0)
    return seen


def test_a_search_from_start_to_end(pictures: list[Any]) -> None:
    info = study(3)
    with shown(wanted=True) as shows:
        assert isinstance(shows, Notebook)
        shows.tell("loading the model")
        shows.autoprune_study_started(info)
        shows.autoprune_probe_finished(3, 8)
        shows.autoprune_trial_finished(info, trial(0, 0.9, 2.0, origin="dense"))
        shows.autoprune_trial_finished(info, trial(1, 0.8, 1.0))
        shows.autoprune_trial_finished(info, FAILED)
        shows.autoprune_member_finished("refining the front", 2, 22)
        shows.autoprune_study_finished(DONE)
    told = [repr(picture) for picture in pictures]
    assert told[0] == "getting ready, 0 s"
    assert told[1] == "loading the model, 0 s"
    assert "shown-1: how sensitive are the groups? 3 of 8, 0 of 3 trials, 0 s" in told
    assert any("2 of 3 trials" in text and text.endswith("left") for text in told)
    assert "shown-1: refining the front, 2 of 22, 3 of 3 trials, 1 failed, 0 s" in told
    assert told[-1] == "shown-1: done, 3 of 3 trials, 1 failed, 0 s"
    htmls = [picture._repr_html_() for picture in pictures]
    assert '<progress value="2" max="3"></progress>' in htmls[-4] + htmls[-5] + htmls[-6]
    both = next(html for html in htmls if "front of 2" in html)
    assert both.index("90.0 %") < both.index("80.0 %")
    assert "<table>" not in htmls[-1], "the result shows the front"


def test_what_stops_a_search_is_told(pictures: list[Any]) -> None:
    with pytest.raises(ValueError, match="no such thing"), shown(wanted=True) as shows:
        shows.tell("loading the <model>")
        raise ValueError("no such thing")
    assert repr(pictures[-1]) == "stopped while loading the <model>, 0 s"
    assert "&lt;model&gt;" in pictures[-1]._repr_html_()


def test_the_clock_goes_on_and_pictures_are_few(pictures: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "_LEAST_S", 1000.0)
    monkeypatch.setattr(notebook, "_MOST_S", 0.0)
    shows = Notebook()
    shows._handle = SimpleNamespace(update=pictures.append)
    shows.show()
    shows.show()
    assert len(pictures) == 1
    shows.beat()
    assert len(pictures) == 2


def test_another_thread_draws_what_was_passed_over(pictures: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "_LEAST_S", 1000.0)
    monkeypatch.setattr(watch, "_BEAT_S", 0.01)
    with shown(wanted=True) as shows:
        shows.tell("one thing")
        shows.tell("another thing")
        end = time.monotonic() + 30
        while not any("another thing" in repr(picture) for picture in pictures):
            assert time.monotonic() < end
            time.sleep(0.01)


def test_where_there_is_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    assert isinstance(shown(wanted=True), Lines)
    terminal = ModuleType("IPython")
    terminal.get_ipython = lambda: object()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", terminal)
    assert not in_notebook(), "a terminal's IPython has no cells"
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(shown(wanted=True), Display)


def test_nothing_is_shown_to_those_who_want_nothing(capsys: pytest.CaptureFixture[str], pictures: list[Any]) -> None:
    info = study(2)
    with shown(wanted=False) as shows:
        assert isinstance(shows, Silent)
        shows.tell("loading the model")
        shows.autoprune_study_started(info)
        shows.autoprune_trial_finished(info, FAILED)
    assert capsys.readouterr() == ("", "")
    assert not pictures


def test_lines_say_what_takes_long(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    lines = Lines()
    lines.tell("tracing the model and verifying its cuts")
    for seconds, heard in ((9, ""), (2, "… tracing the model and verifying its cuts, 11 s\n"), (5, "")):
        now[0] += seconds
        lines.beat()
        assert capsys.readouterr().err == heard
    info = study(4)
    lines.autoprune_study_started(info)
    lines.autoprune_trial_finished(info, trial(0, 0.9, 2.0))
    capsys.readouterr()
    for seconds, heard in ((59, ""), (2, "… searching, 1 of 4 trials, 1 min 1 s\n"), (3660, "1 h 2 min\n")):
        now[0] += seconds
        lines.beat()
        assert capsys.readouterr().err.endswith(heard)
        assert (progress._PATIENCE_S, progress._PATIENCE_AT_FIRST_S) < (120, 120), "no two minutes of silence"
