"""Whole sessions: from the spec to the front, killed and interrupted, observed and resumed."""

from __future__ import annotations

import json
import logging
import re
import signal
from pathlib import Path

import pytest
import torch
import toy_plugin
from toy_driver import run_resume, run_search, wait_for

import autoprune
from autoprune.errors import NoFeasibleTrialError, PluginError, SpecError, StudyError
from autoprune.plugin import StudyInfo, hookimpl
from autoprune.report import markdown
from autoprune.structure import load_pruned
from autoprune.study import pareto_front, read_study, resume, search
from autoprune.study.front import Finals, measure_front
from tests.fresh import started


def essence(result):
    """What must not depend on when or in how many sessions a study ran."""
    return [
        (t.number, t.origin, t.state, t.ratios, t.metrics, t.seed, t.reason) for t in result.outcome.trials
    ]  # fmt: skip


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


class Watcher:
    """Remembers what it is told."""

    def __init__(self):
        self.events = []

    @hookimpl
    def autoprune_study_started(self, study):
        self.events.append(("started", study))
        return {"run_id": "r1"}

    @hookimpl
    def autoprune_trial_finished(self, result):
        self.events.append(("trial", result))

    @hookimpl
    def autoprune_study_finished(self, study, outcome):
        self.events.append(("finished", outcome))

    def told(self, kind):
        return [what for event, what in self.events if event == kind]


def test_a_search_gives_front_trials_and_models(spec, host, tmp_path):
    watcher = Watcher()
    result = search(spec(), host=host, observers=[watcher])
    trials = result.outcome.trials
    assert [t.number for t in trials] == list(range(12))
    assert [t.origin for t in trials] == ["dense", "ladder", "ladder"] + ["sampler"] * 9
    assert [p.trial for p in result.front.points] == list(pareto_front(trials, result.front.objectives))
    assert not result.outcome.interrupted
    assert result.study.folder == tmp_path / "study"
    assert result.facts == {"run_id": "r1"}
    # Models: those of the front, and nothing else.
    assert {str(n) for n in result.models} == {entry.name for entry in (tmp_path / "study" / "models").iterdir()}
    assert set(result.models) == {p.trial.number for p in result.front.points}
    assert all(load_pruned(folder, dense=toy_plugin.ToyModel().build(None)) for folder in result.models.values())
    assert all(t.model is None for t in trials if t.number not in result.models)
    # The front and the dense model are measured on the test split, too.
    assert all(set(p.test) == {"share", "distance"} and p.test["distance"].samples == 16 for p in result.front.points)
    assert result.outcome.dense_test["distance"].value == 0
    # Observers saw it all, in order.
    assert [event for event, _ in watcher.events] == ["started"] + ["trial"] * 12 + ["finished"]
    assert [t.number for t in watcher.told("trial")] == list(range(12))
    assert watcher.told("finished") == [result.outcome]
    info = watcher.told("started")[0]
    assert info == result.study
    assert (info.trials, info.finished, info.units) == (12, (), {"share": "fraction of dense", "distance": "logits"})
    assert StudyInfo.model_validate_json(info.model_dump_json()) == info


def test_the_environment_is_recorded(spec, host):
    import torch

    facts = search(spec("search.trials=2", "search.seed=7"), host=host).study.environment
    assert facts["torch"] == torch.__version__
    assert facts["seed"] == "7"
    assert facts["device"] == "cpu"
    assert len(facts["spec_hash"]) == 64
    assert {"autoprune", "optuna", "mlflow", "python", "platform", "cpu", "threads", "workers"} <= set(facts)


def test_the_json_document_is_the_contract_of_scripts(spec, host, tmp_path):
    result = search(spec("constraints={share: <= 0.4}"), host=host, observers=[Watcher()])
    document = json.loads(json.dumps(result.to_json()))
    states = [t.state for t in result.outcome.trials]
    assert document["study"] == "study"
    assert document["run_id"] == "r1"
    assert document["trials"] == {state: states.count(state) for state in ("complete", "failed", "rejected")}
    assert document["trials"]["rejected"] > 0
    assert document["objectives"] == {"distance": "minimize", "share": "minimize"}
    assert document["hypervolume"] == result.front.hypervolume
    for entry, point in zip(document["front"], result.front.points, strict=True):
        assert entry["trial"] == point.trial.number
        assert entry["ratios"] == point.trial.achieved
        assert entry["metrics"]["share"] == point.trial.metrics["share"].value
        assert (Path(entry["model"]) / "recipe.json").exists()


def test_a_search_that_makes_no_progress_ends(spec, host, caplog):
    result = search(spec("search.trials=200", "search.patience=4"), host=host)
    trials = result.outcome.trials
    assert 4 < len(trials) < 200
    volumes = [
        measure_front(trials[:done], result.front.objectives, Finals(), costs=result.study.costs).hypervolume
        for done in range(1, len(trials) + 1)
    ]
    stalls = [done for done in range(4, len(volumes)) if volumes[done] <= 1.001 * volumes[done - 4]]
    assert stalls[0] == len(trials) - 1, "it ends with the first stall"
    assert "the last 4 trials made the front hardly better" in caplog.text
    assert all(point.test for point in result.front.points), "the front is measured as ever"
    more = resume(result.study.folder, trials=200, host=host).outcome.trials
    assert len(trials) < len(more) < 200, "who asks for more gets some"


def test_what_is_of_the_front_alone_is_measured_at_the_end(spec, host):
    made = spec("search.trials=4", swap=("evaluators: [", "evaluators: [{use: toy-mode, front: true}, "))
    result = search(made, host=host)
    assert all(trial.metrics.keys() == {"share", "distance"} for trial in result.outcome.trials)
    assert result.front.points
    for point in result.front.points:
        assert point.test.keys() == {"share", "distance", "training", "draw"}
    assert "training" in result.outcome.dense_test
    text = markdown(result.study, result.outcome)
    assert "| training (flag), test |" in text


def test_what_is_of_the_front_alone_is_no_objective(spec, host):
    swap = ("evaluators: [", "evaluators: [{use: toy-mode, front: true}, ")
    with pytest.raises(SpecError, match=r"objectives\.draw: its evaluator measures the front's members alone"):
        spec("objectives.draw=minimize", swap=swap)


def test_trials_know_how_long_the_dense_model_took(spec, host, monkeypatch):
    known = []

    def spy(evaluators, dense_s):
        known.append(dict(dense_s))
        return list(evaluators)

    monkeypatch.setattr("autoprune.study.trial.quickest_first", spy)
    trials = search(spec("search.trials=3"), host=host).outcome.trials
    assert known[:3] == [{}, trials[0].durations_s, trials[0].durations_s]


def test_trials_are_a_table(spec, host):
    result = search(spec("search.trials=5", "constraints={share: <= 0.7}"), host=host)
    table = result.trials
    assert list(table.index) == [0, 1, 2, 3, 4]
    assert {"state", "origin", "front", "share", "distance", "ratio.wide", "ratio.narrow", "reason"} <= set(
        table.columns
    )
    assert set(table.index[table.front]) == set(result.models)
    assert table.feasible.tolist() == [t.feasible for t in result.outcome.trials]


@pytest.mark.slow
def test_a_seed_gives_the_same_study_and_another_seed_another(spec, host):
    runs = [search(spec(f"search.seed={seed}", f"output=run{i}"), host=host) for i, seed in enumerate([3, 3, 4])]
    assert essence(runs[0]) == essence(runs[1])
    assert [t.ratios for t in runs[0].outcome.trials] != [t.ratios for t in runs[2].outcome.trials]


@pytest.mark.slow
def test_the_same_cut_is_not_paid_for_twice(spec, host, tmp_path):
    log = tmp_path / "log"
    made = spec(
        "search_space.groups={wide: keep, narrow: {high: 0.4}}",
        swap=("use: toy-distance", f"use: toy-distance, log: {log}"),
    )
    result = search(made, host=host)
    trials = result.outcome.trials
    repeated = [t for t in trials if t.reason]
    assert repeated, "12 trials, 4 possible cuts"
    for trial in repeated:
        first = min(t.number for t in trials if t.achieved == trial.achieved and t.origin != "dense")
        assert trial.reason == f"same cut as trial {first}; its measurements are used again"
        assert trial.metrics == trials[first].metrics
        assert trial.state == "complete"
    assert sum(line.startswith("validation") for line in lines(log)) == len(trials) - len(repeated)


@pytest.mark.slow
def test_failed_trials_are_counted_and_the_search_goes_on(spec, host):
    made = spec(swap=("use: toy-distance", "use: toy-distance, fault: raise, below: 0.5"))
    result = search(made, host=host)
    assert len(result.outcome.trials) == 12
    for trial in result.outcome.trials:
        assert (trial.state == "failed") == (trial.metrics["share"].value < 0.5)
        assert trial.state == "complete" or "the toy broke" in trial.reason
        assert (trial.state == "failed") == ("in _misbehave" in (trial.traceback or ""))
    assert {p.trial.state for p in result.front.points} == {"complete"}


def test_no_feasible_trial_is_an_error_that_says_why(spec, host):
    watcher = Watcher()
    with pytest.raises(
        NoFeasibleTrialError, match=r"none of 4 trials is feasible: 3 failed \(3 times: evaluator toy-"
    ) as caught:
        made = spec(
            "search.trials=4",
            "constraints={distance: '<= -1'}",
            swap=("use: toy-distance", "use: toy-distance, fault: raise"),
        )
        search(made, host=host, observers=[watcher])
    assert caught.value.exit_code == 4
    assert watcher.told("finished")[0].front.points == ()


@pytest.mark.slow
def test_a_dense_model_alone_is_no_success_where_every_pruned_trial_failed(spec, host, tmp_path):
    watcher = Watcher()
    made = spec("search.trials=3", swap=("use: toy-distance", "use: toy-distance, fault: raise"))
    with pytest.raises(
        NoFeasibleTrialError,
        match=r"the front is the dense model alone, for no pruned one came through: 2 failed \(2 times: evaluator toy-"
        r".*the toy broke.*\); see ",
    ) as caught:
        search(made, host=host, observers=[watcher])
    assert caught.value.exit_code == 4
    assert [p.trial.number for p in watcher.told("finished")[0].front.points] == [0]
    assert read_study(tmp_path / "study", host=host).outcome == watcher.told("finished")[0], "what there is can be read"
    # A dense model that nothing beats is one: its candidates came through.
    assert search(spec("search.trials=1", "output=alone"), host=host).models.keys() == {0}


@pytest.mark.slow
def test_an_infeasible_dense_model_is_no_member_of_the_front(spec, host, tmp_path):
    result = search(spec("constraints={share: <= 0.7}"), host=host)
    dense = result.outcome.trials[0]
    assert (dense.state, dense.feasible) == ("complete", False)
    assert 0 not in result.models
    assert result.outcome.dense_test["share"].value == 1
    assert result.front.reference["share"] == pytest.approx(1.1)


# Observers


class Broken(Watcher):
    @hookimpl
    def autoprune_study_started(self, study):
        raise RuntimeError("no server")

    @hookimpl
    def autoprune_trial_finished(self, result):
        raise RuntimeError("no disk")


def test_an_observer_that_raises_is_warned_about_once_and_stops_nothing(spec, host, caplog):
    watchers = [Watcher(), Broken(), Watcher()]
    with caplog.at_level(logging.WARNING, "autoprune"):
        result = search(spec("search.trials=5"), host=host, observers=watchers)
    assert [record.getMessage() for record in caplog.records] == [
        "observer Broken failed in autoprune_study_started and may miss what follows: RuntimeError: no server"
    ]
    assert [len(w.told("trial")) for w in watchers] == [5, 0, 5]
    assert [len(w.told("finished")) for w in watchers] == [1, 1, 1]
    assert result.facts == {"run_id": "r1"}


@pytest.mark.slow
def test_observers_leave_the_host_when_the_session_ends(spec, host):
    watcher = Watcher()
    search(spec("search.trials=2"), host=host, observers=[watcher])
    search(spec("search.trials=2", "output=other"), host=host)
    assert len(watcher.told("finished")) == 1


def test_an_observer_without_hooks_is_refused(spec, host):
    with pytest.raises(PluginError, match="implements no hook"):
        search(spec("search.trials=2"), host=host, observers=[object()])


# Exporters

CREW = Path(__file__).parent / "toy" / "crew.py"


def exports(folder):
    return [line for line in lines(folder / "exported") if line]


@pytest.mark.slow
def test_the_fronts_models_are_exported_once_each(spec, host, tmp_path):
    asked = [f"plugins=[{CREW}]", "exporters=[{use: shapes}, {use: shapes}]", "search.trials=4"]
    result = search(spec(*asked), host=host)
    document = json.loads(json.dumps(result.to_json()))
    assert len(result.models) > 1
    for entry in document["front"]:
        model = load_pruned(entry["model"], dense=toy_plugin.ToyModel().build(None))
        assert list(entry["exports"]) == ["shapes", "shapes-2"]
        for name, exported in entry["exports"].items():
            assert exported["path"] == str(Path(entry["model"]) / "exports" / name / "shapes.json")
            assert exported["description"] == "open it with json"
            made = json.loads(Path(exported["path"]).read_text())
            assert made["shapes"] == {n: list(t.shape) for n, t in model.named_parameters()}
            assert made["outputs"] == [4, 3]
            assert made["mean"] == [0.5] * 6
    count = len(exports(tmp_path))
    assert count == 2 * len(result.models)
    again = resume(tmp_path / "study", host=host)
    assert len(exports(tmp_path)) == count, "what is exported is not exported again"
    assert again.exports == result.exports == read_study(tmp_path / "study", host=host).exports
    (next(iter(result.models.values())) / "exports" / "shapes.json").unlink()  # killed before it was taken down
    assert resume(tmp_path / "study", host=host).exports == result.exports
    assert len(exports(tmp_path)) == count + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("raise", r"ValueError: no space \(crew\.py:\d+ in export\)"),
        ("outside", "wrote .*/x, which is not in the folder that it was given"),
        ("missing", "says that it wrote gone, which is not there"),
        ("nothing", "returned a NoneType, not an Artifact"),
    ],
)
def test_an_export_that_fails_is_told_and_loses_nothing(spec, host, tmp_path, caplog, fault, told):
    asked = [f"plugins=[{CREW}]", f"exporters=[{{use: shapes, fault: {fault}}}, {{use: shapes}}]", "search.trials=1"]
    with caplog.at_level(logging.WARNING, "autoprune"):
        result = search(spec(*asked), host=host)
    (said,) = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(f"the model of trial 0 could not be exported by shapes: exporter shapes: {told}", said)
    assert list(result.exports[0]) == ["shapes-2"]
    assert result.front.points[0].test


# What is said aloud


@pytest.mark.slow
def test_a_search_that_measures_nothing_says_so(spec, host, caplog, monkeypatch):
    compute = toy_plugin.ToyShare.compute
    noisy = lambda self, costs, dense: {name: 1.3 * value for name, value in compute(self, costs, dense).items()}  # noqa: E731
    monkeypatch.setattr(toy_plugin.ToyShare, "compute", noisy)
    from autoprune_tasks.classification import Classification

    monkeypatch.setattr(Classification, "divergence", lambda self, outputs, dense: 0 * outputs.sum(1))
    with caplog.at_level(logging.WARNING, "autoprune"):
        search(spec("search.sampler={use: toy-profiled}", "search.trials=4"), host=host)
    said = [record.getMessage() for record in caplog.records]
    assert [text[:40] for text in said] == [
        "timings on this machine are too noisy to",
        "no cut of any group changes the outputs ",
    ]
    assert "share is 1.30" in said[0]


# Resuming


@pytest.mark.slow
def test_more_trials_continue_as_if_they_had_been_asked_for_at_once(spec, host, tmp_path):
    whole = search(spec("output=whole"), host=host)
    search(spec("search.trials=4"), host=host)
    watcher = Watcher()
    result = resume(tmp_path / "study", trials=12, host=host, observers=[watcher])
    assert essence(result) == essence(whole)
    assert result.front.hypervolume == whole.front.hypervolume
    assert [t.number for t in watcher.told("trial")] == list(range(4, 12))
    assert [t.number for t in watcher.told("started")[0].finished] == [0, 1, 2, 3]
    assert {p.trial.number: p.test for p in result.front.points} == {p.trial.number: p.test for p in whole.front.points}


@pytest.mark.slow
def test_a_ladder_cut_short_is_finished_first(spec, host, tmp_path):
    search(spec("search.trials=2"), host=host)
    result = resume(tmp_path / "study", trials=5, host=host)
    assert [t.origin for t in result.outcome.trials] == ["dense", "ladder", "ladder", "sampler", "sampler"]


@pytest.mark.slow
def test_resuming_an_ended_study_runs_and_measures_nothing(spec, host, tmp_path):
    log = tmp_path / "log"
    whole = search(spec(swap=("use: toy-distance", f"use: toy-distance, log: {log}")), host=host)
    before = lines(log)
    assert sum(line.startswith("test") for line in before) == len(whole.front.points) + (0 not in whole.models)
    again = resume(tmp_path / "study", host=host)
    assert lines(log) == before
    assert again.outcome == whole.outcome
    assert again.models == whole.models


@pytest.mark.slow
def test_a_test_measurement_that_failed_is_tried_again(spec, host, tmp_path, caplog):
    log = tmp_path / "log"
    made = spec(
        "search.trials=4",
        swap=(
            "use: toy-distance",
            f"use: toy-distance, fault: raise, only_final: true, below: 2, once: true, log: {log}",
        ),
    )
    with caplog.at_level(logging.WARNING, "autoprune"):
        first = search(made, host=host)
    assert "trial 0 could not be measured on the test split: evaluator toy-distance: ValueError" in caplog.text
    assert first.outcome.dense_test == {}
    again = resume(tmp_path / "study", host=host)
    assert again.outcome.dense_test["distance"].value == 0
    assert all(p.test for p in again.front.points)


@pytest.mark.slow
def test_a_spec_with_overrides_and_relative_paths_resumes_from_elsewhere(spec, host, tmp_path, monkeypatch):
    made = spec("search.trials=3", "search.storage=sqlite:///db/optuna.db", "data.bounded=true")
    (tmp_path / "db").mkdir()
    search(made, host=host)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    made.document.folder.joinpath("spec.yaml").unlink()
    result = resume(tmp_path / "study", trials=5, host=host)
    assert len(result.outcome.trials) == 5
    assert result.study.spec.data == {"use": "toy-data", "bounded": True}
    assert (tmp_path / "db" / "optuna.db").exists()
    assert not (tmp_path / "study" / "journal.log").exists()


@pytest.mark.slow
def test_a_spec_changed_in_python_resumes_as_it_was_searched(spec, host, tmp_path):
    made = spec()
    changed = made.model_copy(update={"search": made.search.model_copy(update={"trials": 3, "seed": 9})})
    search(changed, host=host)
    result = resume(tmp_path / "study", host=host)
    assert (len(result.outcome.trials), result.study.environment["seed"]) == (3, "9")


@pytest.mark.slow
def test_a_spec_that_was_changed_since_is_warned_about(spec, host, tmp_path, caplog):
    search(spec("search.trials=2"), host=host)
    resume(tmp_path / "study", host=host)
    assert "is not what the study began with" not in caplog.text
    path = tmp_path / "study" / "spec.yaml"
    path.write_text(path.read_text().replace("high: 0.9", "high: 0.8"))
    resume(tmp_path / "study", trials=3, host=host)
    assert "is not what the study began with" in caplog.text


@pytest.mark.slow
def test_a_model_that_is_another_by_now_is_warned_about(spec, host, tmp_path, caplog, monkeypatch):
    search(spec("search.trials=2"), host=host)
    resume(tmp_path / "study", host=host)
    assert "began with" not in caplog.text
    loaded = toy_plugin.ToyModel.load

    def trained_on(self, data, ctx):
        network = loaded(self, data, ctx)
        with torch.no_grad():
            network.head.bias += 0.01
        return network

    monkeypatch.setattr(toy_plugin.ToyModel, "load", trained_on)
    resume(tmp_path / "study", trials=3, host=host)
    assert f"model or data are not what {tmp_path / 'study'} began with: its trials may not compare" in caplog.text


def test_what_is_no_study_is_told(host, tmp_path):
    with pytest.raises(StudyError, match="holds no study: No such file or directory"):
        resume(tmp_path, host=host)
    (tmp_path / "study.json").write_text('{"name": 1}')
    with pytest.raises(StudyError, match="malformed: name: Input should be a valid string"):
        resume(tmp_path, host=host)


# The folder


@pytest.mark.slow
def test_by_default_studies_are_numbered_in_the_current_folder(spec, host, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    swap = ("output: study\n", "")
    (tmp_path / "runs" / "toy-7").mkdir(parents=True)
    folders = [search(spec("search.trials=1", swap=swap), host=host).study.folder for _ in range(2)]
    assert folders == [tmp_path / "runs" / "toy-8", tmp_path / "runs" / "toy-9"]
    assert (folders[0] / "spec.yaml").read_text() == (tmp_path / "spec.yaml").read_text()


@pytest.mark.slow
def test_a_study_is_not_overwritten(spec, host, tmp_path):
    search(spec("search.trials=1"), host=host)
    with pytest.raises(StudyError, match="holds a study; continue it with `autoprune resume`"):
        search(spec("search.trials=1"), host=host)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").touch()
    with pytest.raises(StudyError, match="full is not empty"):
        search(spec("search.trials=1", "output=full"), host=host)
    with pytest.raises(StudyError, match="cannot be made"):
        search(spec("search.trials=1", "output=spec.yaml/study"), host=host)


def test_a_refused_spec_leaves_nothing_behind(spec, host, tmp_path):
    with pytest.raises(SpecError):
        search(spec("search_space.groups={wied: keep}"), host=host)
    assert not (tmp_path / "study").exists()


@pytest.mark.slow
def test_one_session_at_a_time(spec, host, tmp_path):
    class Rival(Watcher):
        @hookimpl
        def autoprune_trial_finished(self, result):
            with pytest.raises(StudyError, match="another session is working on"):
                resume(tmp_path / "study", host=host)
            self.events.append(("refused", result.number))
            assert read_study(tmp_path / "study", host=host).outcome.trials[-1].number == result.number

    rival = Rival()
    search(spec("search.trials=2"), host=host, observers=[rival])
    assert rival.told("refused") == [0, 1]


@pytest.mark.slow
def test_a_study_is_read_without_loading_the_model_or_changing_a_thing(spec, host, tmp_path, monkeypatch):
    whole = search(spec(), host=host)
    monkeypatch.setattr(toy_plugin.ToyModel, "load", lambda *_: pytest.fail("the model was loaded"))
    before = {p: p.read_bytes() for p in (tmp_path / "study").rglob("*") if p.is_file()}
    read = read_study(tmp_path / "study", host=host)
    assert read.outcome == whole.outcome
    assert read.study == whole.study.model_copy(update={"finished": whole.outcome.trials})
    assert {p: p.read_bytes() for p in (tmp_path / "study").rglob("*") if p.is_file()} == before


# Interrupted and killed


@pytest.mark.slow
def test_ctrl_c_ends_the_session_in_good_order(spec, host, tmp_path):
    log = tmp_path / "log"
    whole = search(spec("output=whole"), host=host)
    fault = f"use: toy-distance, fault: interrupt, below: 0.5, once: true, log: {log}"
    watcher = Watcher()
    handler = signal.getsignal(signal.SIGINT)
    result = search(spec(swap=("use: toy-distance", fault)), host=host, observers=[watcher])
    assert result.outcome.interrupted
    assert len(result.outcome.trials) == 1, "the first ladder step interrupts itself"
    assert watcher.told("finished") == [result.outcome]
    assert not any(line.startswith("test") for line in lines(log)), "whoever presses Ctrl-C does not want to wait"
    assert signal.getsignal(signal.SIGINT) is handler
    again = resume(tmp_path / "study", host=host)
    assert not again.outcome.interrupted
    assert [t.ratios for t in again.outcome.trials] == [t.ratios for t in whole.outcome.trials]


@pytest.mark.slow
def test_ctrl_c_outside_a_trial_waits_until_the_study_is_written(spec, host, tmp_path):
    class Impatient(Watcher):
        @hookimpl
        def autoprune_trial_finished(self, result):
            if result.number == 3:
                signal.raise_signal(signal.SIGINT)
            self.events.append(("trial", result))

    watcher = Impatient()
    result = search(spec(), host=host, observers=[watcher])
    assert result.outcome.interrupted
    assert len(watcher.told("trial")) == 4, "the observer was not cut short"
    assert len(resume(tmp_path / "study", host=host).outcome.trials) == 12


@pytest.mark.slow
def test_a_second_ctrl_c_gets_out_of_a_stuck_observer(spec, host, tmp_path):
    class Stuck(Watcher):
        @hookimpl
        def autoprune_trial_finished(self, result):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("it went on")

    stuck = Stuck()
    result = search(spec(), host=host, observers=[stuck])
    assert result.outcome.interrupted
    assert stuck.told("finished") == [result.outcome]
    assert len(resume(tmp_path / "study", host=host).outcome.trials) == 12


@pytest.mark.slow
def test_sigterm_is_a_ctrl_c(spec, host, tmp_path):
    log = tmp_path / "log"
    spec(swap=("use: toy-distance", f"use: toy-distance, seconds: 0.2, log: {log}"))
    process = started(run_search, tmp_path / "spec.yaml")
    wait_for(lambda: len(lines(log)) == 3)
    process.terminate()
    process.join()
    assert process.exitcode == 130
    assert len(resume(tmp_path / "study", host=host).outcome.trials) == 12


@pytest.mark.slow
def test_the_time_limit_ends_a_session_which_then_is_measured(spec, host, tmp_path):
    made = spec("search.timeout=0.5s", swap=("use: toy-distance", "use: toy-distance, seconds: 0.15"))
    result = search(made, host=host)
    assert not result.outcome.interrupted
    assert 1 <= len(result.outcome.trials) <= 4
    assert all(p.test for p in result.front.points)
    assert len(resume(tmp_path / "study", trials=5, host=host).outcome.trials) <= 5


@pytest.mark.slow
def test_killed_in_the_middle_of_trials_nothing_is_lost_and_nothing_is_repeated(spec, host, tmp_path):
    log = tmp_path / "log"
    whole = search(spec("output=whole", "strategy.noise=0.05"), host=host)
    spec("strategy.noise=0.05")
    (tmp_path / "spec.yaml").write_text(
        (tmp_path / "spec.yaml").read_text()
        .replace("use: toy-strategy", "use: toy-strategy, noise: 0.05")
        .replace("use: toy-distance", f"use: toy-distance, seconds: 0.1, log: {log}")
    )  # fmt: skip
    process = started(run_search, tmp_path / "spec.yaml")
    for evaluations in (1, 4, 9):  # the line is written at the start of an evaluation, which then takes 0.1 s
        wait_for(lambda n=evaluations: len(lines(log)) == n)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert len(lines(log)) == evaluations
        process = started(run_resume, tmp_path / "study")
    process.join()
    assert process.exitcode == 0
    result = read_study(tmp_path / "study", host=host)
    assert essence(result) == essence(whole)
    assert [t.number for t in result.outcome.trials] == list(range(12))
    validation = sum(line.startswith("validation") for line in lines(log))
    paid = sum(t.reason is None for t in result.outcome.trials)
    assert validation == paid + 3, "three trials were killed and run once more"
    assert {str(n) for n in result.models} == {entry.name for entry in (tmp_path / "study" / "models").iterdir()}
    assert set(result.models) == set(whole.models)


@pytest.mark.slow
@pytest.mark.parametrize("write", [1, 2, 3])
def test_killed_while_queueing_the_first_candidates(spec, host, tmp_path, monkeypatch, write):
    """The study's journal as it is after its first writes: created, then one queued trial after the other."""
    whole = search(spec("search.trials=5"), host=host)
    journal = tmp_path / "study" / "journal.log"
    kept = journal.read_text().splitlines(keepends=True)[:write]
    journal.write_text("".join(kept))
    result = resume(tmp_path / "study", host=host)
    assert essence(result) == essence(whole)


@pytest.mark.slow
def test_killed_between_the_folder_and_the_study(spec, host, tmp_path):
    whole = search(spec("search.trials=3"), host=host)
    (tmp_path / "study" / "journal.log").unlink()
    (tmp_path / "study" / "info.json").unlink()
    with pytest.raises(StudyError, match="has not begun"):
        read_study(tmp_path / "study", host=host)
    assert essence(resume(tmp_path / "study", host=host)) == essence(whole)


@pytest.mark.slow
def test_a_model_half_saved_is_none(spec, host, tmp_path):
    search(spec("search.trials=4"), host=host)
    models = tmp_path / "study" / "models"
    (models / ".9").mkdir()
    (models / "9").mkdir()
    result = resume(tmp_path / "study", host=host)
    assert {entry.name for entry in models.iterdir()} == {str(n) for n in result.models}


def test_the_public_api_searches(spec, host, tmp_path):
    assert autoprune.search(spec("search.trials=1"), host=host).models.keys() == {0}


@pytest.mark.slow
def test_a_dense_model_that_fails_ends_the_search(spec, host):
    watcher = Watcher()
    made = spec(swap=("use: toy-distance", "use: toy-distance, fault: nan, below: 2"))
    with pytest.raises(NoFeasibleTrialError, match=r"the dense model itself failed, .*: evaluator toy-distance.*nan"):
        search(made, host=host, observers=[watcher])
    assert [trial.origin for trial in watcher.told("finished")[0].trials] == ["dense"], "nothing else was tried"
