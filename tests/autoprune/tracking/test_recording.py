from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from autoprune.host.plugins import PluginHost
from autoprune.plugin import DatasetSummary, Measured
from autoprune.report import named_member, picked_markdown, report_files, verdict
from autoprune.tracking.health import check_store


@pytest.mark.slow
def test_a_study_is_a_parent_run_with_one_child_per_trial(
    synthetic, tracker, run_study, with_models, assert_complete, uri, tmp_path
):
    study = synthetic.study(tmp_path / "study", objectives=3, trials=12, uri=uri, constraints={"accuracy": ">= 0.7"})
    results = with_models(study, synthetic.trials(12, bounds={"accuracy": 0.7}))
    outcome = run_study(study, results)
    found = assert_complete(study, uri, outcome)

    parent = found.parent
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "synthetic"
    assert parent.data.tags["autoprune.role"] == "study"
    assert parent.data.tags["mlflow.note.content"].startswith(f"**{verdict(study, outcome)}**")
    assert parent.data.tags["env.torch"] == "2.13.0"
    assert json.loads(parent.data.tags["autoprune.hypervolume_reference"]) == outcome.front.reference
    assert parent.data.params["search.sampler.use"] == "sensitivity"
    assert parent.data.params["evaluators.0.use"] == "accuracy"
    assert parent.data.metrics["study/hypervolume"] == outcome.front.hypervolume
    assert parent.data.metrics["study/front_points"] == len(outcome.front.points)
    assert parent.data.metrics["study/trials_failed"] == 1
    assert parent.data.metrics["study/trials_rejected"] == 1
    infeasible = [t for t in results if t.state == "complete" and not t.feasible]
    assert parent.data.metrics["study/trials_infeasible"] == len(infeasible) > 0
    assert parent.data.metrics["best/latency_ms"] == pytest.approx(
        min(p.trial.metrics["latency_ms"].value for p in outcome.front.points), rel=1e-5
    )

    members = {point.trial.number: point for point in outcome.front.points}
    for result in results:
        run = found.trials[result.number]
        tags, metrics = run.data.tags, run.data.metrics
        assert tags["autoprune.origin"] == result.origin
        assert tags["autoprune.state"] == result.state
        assert tags["autoprune.feasible"] == str(result.feasible).lower()
        assert run.info.start_time == int(result.started.timestamp() * 1000)
        assert run.data.params["precision"] == result.precision
        assert run.data.params["ratio/layer1.0.conv1"] == f"{result.ratios['layer1.0.conv1']:.6g}"
        assert run.data.params["achieved/layer1.0.conv1"] == f"{result.achieved['layer1.0.conv1']:.6g}"
        assert run.data.params["seconds/total"] == "1.5"
        if result.state == "complete":
            assert metrics["uncertainty/accuracy_low"] == pytest.approx(result.metrics["accuracy"].low, rel=1e-5)
            assert metrics["violation/accuracy"] == pytest.approx(result.violations["accuracy"], rel=1e-5)
        tested = {name: value for name, value in metrics.items() if name.startswith("test/")}
        if point := members.get(result.number):
            values = {f"test/{name}": measured.value for name, measured in point.test.items()}
            assert tested == pytest.approx(values, rel=1e-5)
            assert tags["mlflow.note.content"].startswith("**On the Pareto front.** Trial")
            assert tags["autoprune.model"] == f"runs:/{run.info.run_id}/study-trial-{result.number}"
        else:
            assert not tested
            assert "autoprune.model" not in tags
        assert not found.artifacts[run.info.run_id]
    dense, one = results[0].metrics, results[1].metrics
    assert found.trials[0].info.run_name.startswith(f"trial 0 · dense · accuracy {100 * dense['accuracy'].value:.1f} %")
    assert found.trials[1].info.run_name.startswith(f"trial 1 · accuracy {100 * one['accuracy'].value:.1f} % · ")
    assert [found.trials[number].info.run_name for number in (8, 11)] == ["trial 8 · failed", "trial 11 · rejected"]
    note = parent.data.tags["mlflow.note.content"]
    assert picked_markdown(study, outcome) in note
    assert "- 1 failed, such as trial 8: CUDA out of memory" in note
    assert "hypervolume 1.234 against accuracy 0.0 %" in note
    assert found.trials[named_member(study, outcome).trial.number].data.tags["autoprune.model"] in note
    assert found.trials[8].data.tags["autoprune.reason"] == results[8].reason
    assert found.trials[8].data.tags["mlflow.note.content"].startswith("**Failed:** CUDA out of memory")
    assert found.trials[11].data.tags["mlflow.note.content"].startswith("**Rejected:** macs")
    assert found.trials[infeasible[0].number].data.tags["autoprune.broken"] == "accuracy >= 0.7"
    assert len({found.trials[n].data.tags["mlflow.runColor"] for n in (0, 1, 8, 11)}) == 4

    files = {"spec.yaml": study.spec_text, **report_files(study, outcome)}
    assert found.artifacts[parent.info.run_id] == {*files, "front_table.json"}
    folder = Path(urlsplit(parent.info.artifact_uri).path)
    assert folder.is_relative_to(tmp_path / "mlartifacts"), "artifacts are beside the database"
    assert {name: (folder / name).read_text() for name in files} == files
    table = json.loads((folder / "front_table.json").read_text())
    assert [row[0] for row in table["data"]] == list(members), "the dense model is a member here, and first"
    assert json.loads(parent.data.tags["mlflow.loggedArtifacts"]) == [{"path": "front_table.json", "type": "table"}]


@pytest.mark.slow
def test_the_front_is_right_after_every_trial(synthetic, tracker, stored, uri, tmp_path):
    study = synthetic.study(tmp_path / "study", uri=uri, trials=8)
    results = tuple(reversed(synthetic.trials(8)))
    tracker.autoprune_study_started(study)
    for place, result in enumerate(results, start=1):
        tracker.autoprune_trial_finished(study, result)
        front = {p.trial.number for p in synthetic.outcome(study, results[:place]).front.points}
        runs = stored(study, uri).trials
        assert {number for number, run in runs.items() if run.data.tags["autoprune.front"] == "true"} == front


def test_of_equal_trials_the_first_is_on_the_front(synthetic, tracker, stored, uri, tmp_path):
    study = synthetic.study(tmp_path / "study", uri=uri)
    first, second = synthetic.trial(1), synthetic.trial(2)
    tracker.autoprune_study_started(study)
    tracker.autoprune_trial_finished(study, second.model_copy(update={"metrics": first.metrics}))
    tracker.autoprune_trial_finished(study, first)
    fronts = {number: run.data.tags["autoprune.front"] for number, run in stored(study, uri).trials.items()}
    assert fronts == {1: "true", 2: "false"}


@pytest.mark.slow
def test_nothing_is_printed_logged_or_left_in_the_environment(
    synthetic, run_study, with_models, uri, tmp_path, capfd, caplog
):
    root = logging.getLogger()
    before = (dict(os.environ), root.handlers[:], root.level, logging.getLogger("mlflow").level)
    study = synthetic.study(tmp_path / "study", uri=uri)
    run_study(study, with_models(study, synthetic.trials(3)))
    assert (dict(os.environ), root.handlers[:], root.level, logging.getLogger("mlflow").level) == before
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "results", "status"),
    [({"interrupted": True}, "complete", "KILLED"), ({}, "failed", "FAILED"), ({}, "complete", "FINISHED")],
)
def test_the_parents_status_says_how_the_study_ended(
    synthetic, run_study, stored, uri, tmp_path, changes, results, status
):
    study = synthetic.study(tmp_path / "study", uri=uri)
    run_study(study, tuple(synthetic.trial(n, state=results) for n in range(2)), **changes)
    assert stored(study, uri).parent.info.status == status


@pytest.mark.slow
def test_facts_of_a_database_say_how_to_look(synthetic, tracker, uri, tmp_path):
    facts = tracker.autoprune_study_started(synthetic.study(tmp_path / "study", uri=uri))
    assert set(facts) == {"run_id", "experiment_id", "tracking_uri", "hint"}
    assert facts["hint"].startswith(f"mlflow ui --backend-store-uri '{uri}'  # then open http://127.0.0.1:5000/#/exp")
    assert "workflowType=machine_learning" in facts["hint"]
    assert facts["run_id"] == json.loads((tmp_path / "study" / "mlflow.json").read_text())["run_id"]


@pytest.mark.slow
def test_a_store_that_comes_late_is_told_once_with_the_link(synthetic, tracker, uri, tmp_path, caplog):
    study = synthetic.study(tmp_path / "study", uri=uri)
    lock = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    assert tracker.autoprune_study_started(study) is None
    lock.rollback()
    lock.close()
    caplog.set_level("INFO", "autoprune")
    caplog.clear()
    results = synthetic.trials(3)
    tracker.autoprune_trial_finished(study, results[0])
    tracker._recorders[study.folder]._wait_until = 0.0
    for result in results[1:]:
        tracker.autoprune_trial_finished(study, result)
    tracker.autoprune_study_finished(study, synthetic.outcome(study, results))
    run = json.loads((study.folder / "mlflow.json").read_text())["run_id"]
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("MLflow has study synthetic now: mlflow ui --backend-store-uri")
    assert f"viewStateShareKey=autoprune-{run}&" in told


def test_tracking_can_be_switched_off(synthetic, tracker, tmp_path):
    study = synthetic.study(tmp_path / "study", tracking={"enabled": False})
    assert tracker.autoprune_study_started(study) is None
    tracker.autoprune_trial_finished(study, synthetic.trial(0))
    tracker.autoprune_study_finished(study, synthetic.outcome(study, (synthetic.trial(0),)))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_many_groups_with_odd_names_are_recorded(synthetic, run_study, stored, uri, tmp_path):
    odd = ("blocks[0].conv", "..", ".", "a//b", "/root", "x" * 400, "x" * 399 + "y", "层.卷积", "a b", "q:r", "")
    groups = (*odd, *(f"layer{n}" for n in range(240)))
    study = synthetic.study(tmp_path / "study", uri=uri, groups=groups)
    results = tuple(synthetic.trial(n, groups=groups) for n in range(2))
    run_study(study, results)
    run = stored(study, uri).trials[1]
    asked = {name: value for name, value in run.data.params.items() if name.startswith("ratio/")}
    assert len(asked) == len(groups), "names that MLflow would not tell apart stay apart"
    assert sum(name.startswith("achieved/") for name in run.data.params) == len(groups)
    assert {"ratio/layer7", "ratio/层.卷积", "ratio/a b"} <= set(asked)


@pytest.mark.slow
def test_what_else_was_chosen_is_a_parameter(synthetic, run_study, stored, uri, tmp_path):
    study = synthetic.study(tmp_path / "study", uri=uri)
    knobs = {"strategy.1.recover.lr": 0.00123456789, "strategy": "gradual", "low-rank.blocks[0].fc": 12.0}
    results = (synthetic.trial(0), synthetic.trial(1).model_copy(update={"knobs": knobs}))
    run_study(study, results)
    runs = stored(study, uri).trials
    plain, chosen = ({k: v for k, v in runs[n].data.params.items() if k.startswith("knob/")} for n in (0, 1))
    assert plain == {}
    odd = next(name for name in chosen if "blocks" in name)
    assert not set(odd) & set("[]")
    assert chosen == {"knob/strategy.1.recover.lr": "0.00123457", "knob/strategy": "gradual", odd: "12"}


@pytest.mark.slow
def test_what_is_not_finite_is_not_recorded(synthetic, run_study, stored, uri, tmp_path):
    study = synthetic.study(tmp_path / "study", uri=uri)
    odd = {"loss": Measured(value=float("nan")), "snr": Measured(value=float("inf"), low=1.0)}
    results = tuple(synthetic.trial(n) for n in range(2))
    results = (results[0], results[1].model_copy(update={"metrics": results[1].metrics | odd}))
    run_study(study, results)
    metrics = stored(study, uri).trials[1].data.metrics
    assert {name for name in metrics if name.startswith("other/")} == {"other/macs", "other/robust_accuracy"}
    assert "uncertainty/snr_low" in metrics


@pytest.mark.slow
def test_long_texts_are_cut_to_what_mlflow_keeps(synthetic, run_study, stored, uri, tmp_path):
    study = synthetic.study(tmp_path / "study", uri=uri)
    failed = synthetic.trial(1, state="failed").model_copy(update={"reason": "no memory " * 5000})
    run_study(study, (synthetic.trial(0), failed))
    tags = stored(study, uri).trials[1].data.tags
    assert tags["autoprune.reason"].startswith("no memory no memory")
    assert "Scorer l1, strategy one-shot." in tags["mlflow.note.content"]


@pytest.mark.slow
def test_where_a_trial_failed_is_an_artifact(synthetic, run_study, stored, uri, tmp_path):
    study = synthetic.study(tmp_path / "study", uri=uri)
    told = "Traceback (most recent call last):\nRuntimeError: no way to postgresql://me:hunter2@db.example/x\n"
    failed = synthetic.trial(1, state="failed").model_copy(update={"traceback": told})
    run_study(study, (synthetic.trial(0), failed))
    found = stored(study, uri)
    runs = {number: run.info.run_id for number, run in found.trials.items()}
    assert {number: found.artifacts[run] for number, run in runs.items()} == {0: set(), 1: {"traceback.txt"}}
    text = Path(found.client.download_artifacts(runs[1], "traceback.txt", str(tmp_path))).read_text()
    assert text == told.replace("hunter2", "***")


@pytest.mark.slow
def test_the_data_is_an_input_of_the_study_alone(synthetic, tracker, run_study, stored, uri, tmp_path):
    splits = [DatasetSummary(split=s, samples=n, digest=f"d{n}") for s, n in (("train", 900), ("test", 100))]
    study = synthetic.study(tmp_path / "study", uri=uri).model_copy(update={"datasets": tuple(splits)})
    run_study(study, synthetic.trials(2))
    tracker.autoprune_study_started(study)
    found = stored(study, uri)
    inputs = [
        (each.dataset.name, each.dataset.digest, json.loads(each.dataset.profile), each.tags[0].value)
        for each in found.parent.inputs.dataset_inputs
    ]
    assert sorted(inputs) == [
        ("digits test", "d100", {"samples": 100}, "test"),
        ("digits train", "d900", {"samples": 900}, "train"),
    ]
    assert not any(run.inputs.dataset_inputs for run in found.trials.values())


@pytest.mark.slow
def test_passwords_stay_out_of_mlflow(synthetic, run_study, uri, tmp_path):
    storage = "postgresql://me:hunter2@db.example/optuna"
    study = synthetic.study(tmp_path / "study", uri=uri, search={"trials": 2, "storage": storage})
    failed = synthetic.trial(1, state="failed").model_copy(update={"reason": f"cannot reach {storage}"})
    run_study(study, (synthetic.trial(0), failed))
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        dump = "\n".join(database.iterdump())
    assert "hunter2" not in dump
    assert "postgresql://me:***@db.example/optuna" in dump


@pytest.mark.slow
def test_an_experiment_keeps_the_views_of_the_newest_ten_studies(synthetic, tracker, uri, tmp_path):
    parents = []
    for place in range(12):
        study = synthetic.study(tmp_path / f"study-{place}", uri=uri)
        parents.append(tracker.autoprune_study_started(study)["run_id"])
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    client.set_experiment_tag("1", "mlflow.sharedViewState.of-the-user", "{}")
    study = synthetic.study(tmp_path / "one more", uri=uri)
    parents.append(tracker.autoprune_study_started(study)["run_id"])
    tags = client.get_experiment("1").tags
    prefix = "mlflow.sharedViewState.autoprune-"
    views = {name.removeprefix(prefix): json.loads(v) for name, v in tags.items() if name.startswith(prefix)}
    assert set(views) == {name for parent in parents[-10:] for name in (parent, f"{parent}-all")}
    assert "mlflow.sharedViewState.of-the-user" in tags
    for name, envelope in views.items():
        assert {"name", "createdAt", "updatedAt"} < set(envelope)
        state = json.loads(envelope["state"])
        assert name.removesuffix("-all") in state["searchFilter"]
        assert ("autoprune.shown" in state["searchFilter"]) != name.endswith("-all")
        assert "metrics.`objective/accuracy`" in state["selectedColumns"]
    assert len({envelope["name"] for envelope in views.values()}) == 20, "the list of views tells them apart"


@pytest.mark.slow
def test_a_new_database_logs_ahead_and_a_copy_of_it_is_whole(synthetic, run_study, assert_complete, tmp_path):
    new = tmp_path / "folder" / "new.db"
    study = synthetic.study(tmp_path / "study", uri=f"sqlite:///{new}")
    outcome = run_study(study, synthetic.trials(2))
    shutil.copy(new, tmp_path / "copy.db")
    with sqlite3.connect(new) as database:
        assert database.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    assert_complete(study, f"sqlite:///{tmp_path / 'copy.db'}", outcome)


@pytest.mark.slow
def test_a_database_that_is_there_keeps_its_mode(synthetic, run_study, uri, tmp_path):
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("PRAGMA journal_mode = DELETE").fetchall() == [("delete",)]
    run_study(synthetic.study(tmp_path / "study", uri=uri), synthetic.trials(2))
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchall() == [("delete",)]


def test_the_plugin_comes_in_through_its_entry_point():
    entry_points = [e for e in importlib.metadata.entry_points(group="autoprune") if e.name == "mlflow"]
    host = PluginHost(entry_points)
    assert [plugin.error for plugin in host.plugins] == [None]
    for hook in ("autoprune_study_started", "autoprune_trial_finished", "autoprune_study_finished"):
        assert len(getattr(host.hook, hook).get_hookimpls()) == 1


@pytest.mark.slow
def test_loading_the_plugin_does_not_load_mlflow():
    program = "import sys, autoprune.tracking; sys.exit(bool({'mlflow', 'matplotlib', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_the_default_store_is_asked_but_not_made(uri, tmp_path, monkeypatch):
    assert check_store() == f"{uri} answers"
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert check_store().endswith("empty/mlflow.db will be created by the first search")
    assert not list(Path.cwd().iterdir())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(Exception, match="refused"):
        check_store()
