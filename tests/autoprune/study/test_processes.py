"""Trials in worker processes, which die, hang and print."""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
from pathlib import Path

import pytest
from toy_driver import run_search, wait_for

from autoprune.errors import StudyError
from autoprune.host.plugins import PluginHost
from autoprune.plugin import hookimpl
from autoprune.study import search
from tests.fresh import started

pytestmark = pytest.mark.usefixtures("quick_workers")


DISTANCE = "use: toy-distance"
TOY = Path(__file__).parent / "toy"


@pytest.fixture
def parallel(spec, tmp_path):
    """A spec for two workers whose evaluator writes a log."""

    def make(*overrides, fault=""):
        log = tmp_path / "log"
        return spec(
            "search.workers=2", "search.trials=6", *overrides, swap=(DISTANCE, f"{DISTANCE}, log: {log}{fault}")
        )

    return make


def lines(log: Path) -> list[list[str]]:
    """Split, validity, process of each evaluation."""
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


@pytest.mark.slow
def test_two_workers_share_the_trials(parallel, spec, host, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TOY_TALKS", "1")  # what components print must not get between coordinator and worker
    result = search(parallel("strategy.noise=0.05", fault=", seconds: 0.2"), host=host)
    for index in range(2):
        assert "the toy talks\nand writes" in (tmp_path / "study" / "workers" / f"{index}.log").read_text()
    capfd.readouterr()
    assert [t.number for t in result.outcome.trials] == list(range(6))
    assert {t.state for t in result.outcome.trials} == {"complete"}
    workers = {line[-1] for line in lines(tmp_path / "log")}
    assert len(workers) == 2
    assert str(os.getpid()) not in workers
    assert all(p.test for p in result.front.points)
    # What a trial comes to hangs on its candidate and its number, not on the process: the first three are fixed.
    alone = search(spec("search.trials=3", "strategy.noise=0.05", "output=alone"), host=host)
    assert [t.metrics for t in result.outcome.trials[:3]] == [t.metrics for t in alone.outcome.trials]


@pytest.mark.slow
def test_a_worker_that_dies_costs_a_trial_or_a_measurement_and_is_replaced(parallel, host, tmp_path, caplog):
    """The toy kills its process at the dense model on the test split and at every small model before."""
    made = parallel("search.trials=3", fault=", fault: kill, below: 0.3, at_dense_test: true")
    result = search(made, host=host)
    states = {t.number: t.state for t in result.outcome.trials}
    assert list(states) == [0, 1, 2]
    assert states[2] == "failed", "the second step of the ladder"
    for trial in result.outcome.trials:
        small = trial.metrics.get("share") is None
        assert (trial.state == "failed") == small
        assert not small or re.fullmatch(
            r"the worker process ended: Killed \(signal 9\); see .*/workers/\d\.log", trial.reason
        ), trial.reason
        assert trial.ratios.keys() == {"wide", "narrow"}
    assert "trial 0 could not be measured on the test split: the worker process ended: Killed (signal 9)" in caplog.text
    assert result.outcome.dense_test == {}
    assert all(p.test for p in result.front.points if p.trial.number)


@pytest.mark.slow
def test_a_trial_that_overruns_its_time_fails_and_its_worker_is_replaced(parallel, host, tmp_path):
    made = parallel("search.trials=3", "search.trial_timeout=2s", fault=", fault: hang, below: 0.3")
    result = search(made, host=host)
    assert [t.state for t in result.outcome.trials] == ["complete", "complete", "failed"]
    failed = result.outcome.trials[2]
    assert failed.reason == "took longer than search.trial_timeout, 2 s"
    assert (failed.finished - failed.started).total_seconds() >= 2


@pytest.mark.slow
def test_an_executor_an_observer_and_an_exporter_of_a_single_file_with_two_workers(parallel, spec, host, tmp_path):
    """As a third party would write them: worker processes of its own, the second comes later, and all answer twice."""
    own = [f"plugins=[{TOY / 'crew.py'}]", "observers=[{use: diary}]", "exporters=[{use: shapes}]"]
    made = parallel("search.executor={use: crew}", "strategy.noise=0.05", *own, fault=", seconds: 0.2")
    result = search(made, host=host)
    assert {t.state for t in result.outcome.trials} == {"complete"}
    workers = {line[-1] for line in lines(tmp_path / "log")}
    assert len(workers) == 2
    assert str(os.getpid()) not in workers
    alone = search(spec("search.trials=3", "strategy.noise=0.05", "output=alone"), host=host)
    assert [t.metrics for t in result.outcome.trials[:3]] == [t.metrics for t in alone.outcome.trials]
    assert sorted((tmp_path / "study" / "observers" / "diary" / "diary.txt").read_text().split("\n")[:-1]) == [
        f"{n} complete" for n in range(6)
    ]
    assert result.facts == {"diary": str(tmp_path / "study" / "observers" / "diary")}
    assert all(set(found) == {"shapes"} for found in result.exports.values())
    assert result.exports.keys() == result.models.keys()


@pytest.mark.slow
def test_workers_go_when_the_coordinator_is_killed(parallel, host, tmp_path):
    parallel()
    text = (tmp_path / "spec.yaml").read_text()
    (tmp_path / "spec.yaml").write_text(
        text.replace("trials: 12", "trials: 6, workers: 2").replace("log: ", "seconds: 30.0, log: ")
    )
    process = started(run_search, tmp_path / "spec.yaml")
    wait_for(lambda: len(lines(tmp_path / "log")) >= 2)
    process.kill()
    process.join()
    workers = {int(line[-1]) for line in lines(tmp_path / "log")}
    assert len(workers) == 2
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), seconds=10)


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_too(parallel, host, tmp_path, monkeypatch, quick_workers):
    monkeypatch.setattr("sys.executable", quick_workers)  # the workers themselves are gone at once

    class Impatient:
        @hookimpl
        def autoprune_trial_finished(self, result):
            signal.raise_signal(signal.SIGINT)

    result = search(parallel(fault=", seconds: 0.5"), host=host, observers=[Impatient()])
    assert result.outcome.interrupted
    assert len(result.outcome.trials) < 6
    assert not any(Path(f"/proc/{line[-1]}").exists() for line in lines(tmp_path / "log"))


@pytest.mark.slow
def test_a_worker_that_cannot_load_the_problem_ends_the_search(parallel, tmp_path):
    """Components registered by hand are not there in another process."""
    import toy_plugin

    class Mine(toy_plugin.ToyScorer):
        name = "mine"

    class Plugin:
        from autoprune import hookimpl

        @hookimpl
        def autoprune_components(self):
            return [*toy_plugin.autoprune_components(), Mine]

    entries = importlib.metadata.entry_points(group="autoprune")
    host = PluginHost([e for e in entries if e.name in ("tasks", "executors")])
    host.register(Plugin(), name="by hand")
    from autoprune.host.binding import load_spec

    parallel()
    made = load_spec(tmp_path / "spec.yaml", overrides=["scorer.use=mine", "search.workers=2"], host=host)
    with pytest.raises(
        StudyError, match=r"and the spec's own files only, cannot load the problem: .*no scorer is called 'mine'"
    ):
        search(made, host=host)
