"""What evaluators measure of all models of the front together: once, killed or not, and lost with nothing else."""

from __future__ import annotations

import json
import logging
import re
import signal

import pytest
from toy_driver import run_killed

from autoprune.report import report_files
from autoprune.study import ending, read_study, resume, search
from autoprune.tracking._records import study_metrics
from tests.autoprune.study.test_ending import essence, lines, value_of
from tests.fresh import started


@pytest.fixture
def joining(spec, tmp_path):
    """A spec with an evaluator that measures the front, and where it takes that down."""

    def make(*overrides, fault=None):
        told = f"{{use: toy-together, log: {tmp_path / 'log'}" + (f", fault: {fault}}}" if fault else "}")
        return spec(*overrides, swap=("evaluators: [", f"evaluators: [{told}, "))

    return make


def test_the_front_is_measured_together_and_told(joining, host, tmp_path):
    result = search(joining("search.trials=6"), host=host)
    pruned = [p.trial for p in result.front.points if p.trial.origin != "dense"]
    assert lines(tmp_path / "log") == [f"{len(pruned)} models, 16 test samples"]
    mean = sum(value_of(trial.model, "test") for trial in pruned) / len(pruned)
    assert result.outcome.together["mean_distance"].value == pytest.approx(mean, rel=1e-4)
    files = report_files(result.study, result.outcome)
    assert json.loads(files["front.json"])["together"]["mean_distance"]["value"] == pytest.approx(mean, rel=1e-4)
    told = f"Of all {len(pruned)} pruned members and the dense model together (test split): mean distance {mean:.3g}."
    assert told in files["report.md"]
    assert result.to_json()["together"] == {"mean_distance": pytest.approx(mean, rel=1e-4)}
    assert study_metrics(result.outcome)["together/mean_distance"] == pytest.approx(mean, rel=1e-4)


def test_it_is_done_once_and_again_for_another_front(joining, host, tmp_path):
    first = search(joining("search.trials=2"), host=host)
    assert read_study(tmp_path / "study", host=host).outcome == first.outcome
    assert resume(tmp_path / "study", host=host).outcome == first.outcome
    assert len(lines(tmp_path / "log")) == 1
    more = resume(tmp_path / "study", trials=10, host=host)
    assert len(lines(tmp_path / "log")) == 2
    assert more.outcome.together != first.outcome.together


def test_it_is_on_the_samples_that_all_were_measured_on(joining, host, tmp_path, monkeypatch):
    monkeypatch.setattr(ending, "_LEAST", 10)
    monkeypatch.setattr(ending, "_seconds", lambda results: 0.0)
    result = search(joining("search.trials=4"), host=host)
    assert result.outcome.test_part == (10, 16)
    assert lines(tmp_path / "log")[0].endswith(" 10 test samples")
    assert result.outcome.together["mean_distance"].samples == 10


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raise", r"ValueError: the toy broke \(toy_plugin.py:\d+ in of_front\)"),
        ("nan", "mean_distance is nan"),
        ("number", "returned a float of the front, not a mapping of metrics"),
        ("ruin", "changed the dense network"),
    ],
)
def test_a_failure_is_told_and_loses_nothing(joining, host, tmp_path, caplog, fault, reason):
    whole = search(joining("search.trials=4", "output=whole"), host=host)
    with caplog.at_level(logging.WARNING, logger="autoprune"):
        result = search(joining("search.trials=4", fault=fault), host=host)
    (told,) = [record.getMessage() for record in caplog.records if record.name == "autoprune"]
    assert told.startswith("what the front's models come to together could not be measured: evaluator toy-together: ")
    assert re.search(reason, told)
    assert essence(result) == essence(whole)
    assert result.outcome.together == {}
    assert "together" not in report_files(result.study, result.outcome)["report.md"]


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
def test_killed_meanwhile_it_is_there_when_the_study_goes_on(joining, host, tmp_path, before):
    whole = search(joining("output=whole"), host=host)
    joining()
    owner = "autoprune.study.storage:Study"
    process = started(run_killed, tmp_path / "spec.yaml", owner, "record_together", 1, before)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    result = resume(tmp_path / "study", host=host)
    assert essence(result) == essence(whole)
    assert result.outcome.together == whole.outcome.together
    assert len(lines(tmp_path / "log")) == 2 + before
