"""What is seen while a search runs."""

from __future__ import annotations

import io
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from autoprune.api.progress import Display, Lines, progress
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Measured, StudyInfo, TrialResult
from autoprune.spec import Spec

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def study(trials: int, finished: tuple[TrialResult, ...] = ()) -> StudyInfo:
    objectives = {"accuracy": "maximize", "latency_ms": "minimize"}
    spec = {
        "name": "shown",
        "model": {"use": "x"},
        "data": {"use": "x"},
        "evaluators": [{"use": "x"}],
        "objectives": objectives,
    }
    return StudyInfo(
        name="shown-1",
        folder=Path("runs/shown-1"),
        spec=Spec.model_validate(spec),
        spec_text="",
        trials=trials,
        objectives=objectives,
        constraints={},
        units={"accuracy": "fraction", "latency_ms": "ms"},
        costs=("latency_ms",),
        groups=(),
        environment={},
        finished=finished,
    )


def trial(number: int, accuracy: float, latency_ms: float, **changes: object) -> TrialResult:
    values = {
        "number": number,
        "state": "complete",
        "origin": "sampler",
        "ratios": {},
        "achieved": {},
        "scorers": {},
        "strategy": "one-shot",
        "metrics": {"accuracy": Measured(value=accuracy), "latency_ms": Measured(value=latency_ms)},
        "seed": 0,
        "started": NOW,
        "finished": NOW,
    }
    return TrialResult.model_validate(values | changes)


FAILED = trial(2, 0, 0, state="failed", reason="ran out of [memory]", metrics={})


def test_a_line_per_trial(capsys: pytest.CaptureFixture[str]) -> None:
    info = study(4, finished=(trial(0, 0.9, 2.0),))
    with Lines() as lines:
        lines.autoprune_study_started(info)
        lines.autoprune_trial_finished(info, trial(1, 0.875, 1.25, origin="ladder"))
        lines.autoprune_trial_finished(info, FAILED)
        lines.autoprune_trial_finished(info, trial(3, 0.2, 1.0, violations={"accuracy": 0.3}))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "shown-1: 4 trials, 1 of them done, in runs/shown-1",
        "trial 1 (ladder): accuracy 87.5 %, latency (ms) 1.25",
        "trial 2 failed: ran out of [memory]",
        "trial 3 (sampler): accuracy 20.0 %, latency (ms) 1, out of bounds",
    ]


def displayed(info: StudyInfo, *results: TrialResult, doing: str = "") -> str:
    """The last picture."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, height=40, no_color=True, legacy_windows=False)
    with Display(console) as display:
        display.autoprune_study_started(info)
        for result in results:
            display.autoprune_trial_finished(info, result)
        if doing:
            display.autoprune_member_finished(doing, 3, 22)
        with console.capture() as picture:
            console.print(display._live.renderable)
    return picture.get() + stream.getvalue()


@pytest.mark.parametrize("kind", ["lines", "display"])
def test_where_mlflow_shows_the_study_is_said_once_as_soon_as_it_has_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("autoprune.api.watch._BEAT_S", 0.01)
    screen = io.StringIO()
    with Lines() if kind == "lines" else Display(Console(file=screen, width=70)) as watch:
        watch.autoprune_study_started(study(4).model_copy(update={"folder": tmp_path}))
        time.sleep(0.1)
        assert "in MLflow" not in (capsys.readouterr().err if kind == "lines" else screen.getvalue())
        state = {"study": "a1", "run_id": "b2", "experiment_id": "3", "tracking_uri": "https://tracking.example/team"}
        (tmp_path / "mlflow.json").write_text(json.dumps(state))
        time.sleep(0.2)
    shown = capsys.readouterr().err if kind == "lines" else screen.getvalue()
    address = "https://tracking.example/team/#/experiments/3/runs?viewStateShareKey=autoprune-b2&"
    assert shown.count(f"in MLflow: {address}") == 1, "whole, so that it can be clicked"


def test_the_display_shows_the_front_alone_best_first() -> None:
    shown = displayed(study(9), trial(0, 0.9, 2.0), trial(1, 0.8, 3.0), trial(3, 0.7, 1.0), FAILED)
    picture = shown[: shown.index("4/9")]
    assert "front of 2" in picture
    assert picture.index("90.0 %") < picture.index("70.0 %")
    assert "80.0 %" not in picture, "it is dominated"
    assert "trial 2 failed: ran out of [memory]" in shown


def test_the_display_counts_from_where_an_earlier_session_ended() -> None:
    shown = displayed(study(9, finished=(trial(0, 0.9, 2.0), trial(1, 0.8, 3.0))))
    assert "2/9" in shown
    assert "90.0 %" in shown


def test_the_display_says_what_comes_after_the_last_trial() -> None:
    shown = displayed(study(1), trial(0, 0.9, 2.0), doing="refining the front")
    assert "refining the front, 3 of 22" in shown


def test_a_long_front_is_shown_from_end_to_end() -> None:
    results = [trial(n, 0.9 - n / 100, 9.0 - n / 10) for n in range(30)]
    picture = displayed(study(50), *results)
    assert "front of 30" in picture
    assert "90.0 %" in picture
    assert "61.0 %" in picture
    assert 3 < sum(f"{90 - n}.0 %" in picture for n in range(30)) < 12


def test_no_display_without_a_terminal() -> None:
    assert isinstance(progress(live=True), Lines)


def test_no_display_with_json_even_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(progress(live=True), Display)
    assert isinstance(progress(live=False), Lines)


@pytest.mark.parametrize("observer", [Lines(), Display(Console(file=io.StringIO()))], ids=["lines", "display"])
def test_both_are_observers(observer: object) -> None:
    host = PluginHost(())
    with host.observed([observer]):
        assert len(host.hook.autoprune_trial_finished.get_hookimpls()) == 1
