"""``sync``: what an outage, a kill or a search without a server left out, in real processes and with real servers."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import autoprune
from autoprune.study import read_study
from autoprune.tracking._store import quietly
from tests.mlflow_server import Server, guarded

from .conftest import Workspace
from .witnesses import PLUGINS

SLOW = (
    "--plugin", PLUGINS / "dawdling.py", "--set", "evaluators=[{use: macs}, {use: accuracy}, {use: dawdling}]",
)  # fmt: skip
"""Makes a trial take a second."""
NOT_MEASURED_BY_THE_TRIAL = ("uncertainty", "against_dense", "violation", "achieved", "seconds", "test", "whole_test")


@pytest.fixture(scope="module")
def _server(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), empty_database)
    yield server
    server.kill()


@pytest.fixture
def server(_server: Server) -> Server:
    """One that is up."""
    _server.start()
    return _server


def recorded(study: Path, uri: str) -> SimpleNamespace:
    """What MLflow has of a study, which is what the study's own storage has: each trial once, with its values."""
    with quietly():
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        mark = json.loads((study / "mlflow.json").read_text())["study"]
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        (parent,) = client.search_runs(experiments, f"tags.`autoprune.study` = '{mark}'")
        query = f"tags.mlflow.parentRunId = '{parent.info.run_id}' and tags.`autoprune.role` = 'trial'"
        runs = client.search_runs(experiments, query, max_results=1000)
        models = client.search_logged_models(experiments, f"tags.`autoprune.study` = '{mark}'")
    result = read_study(study)
    trials = {trial.number: trial for trial in result.outcome.trials}
    assert sorted(int(run.data.tags["autoprune.trial"]) for run in runs) == sorted(trials)
    for run in runs:
        trial = trials[int(run.data.tags["autoprune.trial"])]
        assert run.info.status == {"complete": "FINISHED", "failed": "FAILED", "rejected": "KILLED"}[trial.state]
        found = dict(run.data.metrics)
        for name, measured in trial.metrics.items():
            values = [
                v
                for k, v in found.items()
                if k.partition("/")[2] == name and k.partition("/")[0] not in NOT_MEASURED_BY_THE_TRIAL
            ]
            assert any(math.isclose(value, measured.value, rel_tol=1e-3) for value in values), (trial.number, name)
    members = sorted(str(number) for number in result.models)
    assert sorted(m.tags["autoprune.trial"] for m in models if m.tags["autoprune.front"] == "true") == members
    assert len({m.tags["autoprune.digest"] for m in models}) == len(models), "no model twice"
    return SimpleNamespace(parent=parent, runs={run.info.run_id for run in runs}, models=models)


@pytest.mark.slow
def test_a_server_that_is_killed_in_mid_search_and_started_again(workspace: Workspace, server: Server) -> None:
    running = workspace.fork(
        "search", "spec.yaml", *SLOW, "--set", f"tracking.uri={server.uri}", "--set", "search.trials=10"
    )
    running.wait_until_it_says("trial 2")
    server.kill()
    running.wait_until_it_says("The search goes on")
    server.start()
    running.process.join(120)
    assert running.process.exitcode == 0
    study = workspace.folder / "runs/digits-1"
    told = workspace.call("sync", study, "--json").document
    found = recorded(study, server.uri)
    assert len(found.runs) == 10
    assert found.parent.info.status == "FINISHED"
    assert told["run_id"] == found.parent.info.run_id
    again = workspace.call("sync", "spec.yaml", "--json").document
    assert again["sent"] == {"trials": 0, "models": 0}
    assert recorded(study, server.uri).runs == found.runs


@pytest.mark.long
@pytest.mark.slow
def test_a_server_that_is_absent_from_the_start(workspace: Workspace, server: Server) -> None:
    server.kill()
    arguments = ("search", "spec.yaml", "--set", f"tracking.uri={server.uri}", "--set", "search.trials=5")
    searched = workspace.call(*arguments)
    assert "runs/digits-1" in searched.out
    study = workspace.folder / "runs/digits-1"
    refused = workspace.call("sync", study, code=1)
    assert refused.err.count("\n") == 1
    assert f"MLflow at {server.uri} lacks 5 of 5 trials of study digits-1: " in refused.err
    server.start()
    sent = workspace.run("sync", study)
    found = recorded(study, server.uri)
    assert f"sent: 5 of 5 trials, {len(found.models)} models; {server.uri} has all of digits-1\n" in sent.out
    assert found.models
    assert f"/runs/{found.parent.info.run_id}" in sent.out
    assert "sent: 0 of 5 trials, 0 models" in workspace.call("sync", study).out
    assert recorded(study, server.uri).runs == found.runs


@pytest.mark.long
@pytest.mark.slow
def test_user_and_password_are_those_of_mlflows_variables(
    workspace: Workspace, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with guarded(server.uri, "ada", "s3cret-word") as uri:
        search = ("search", "spec.yaml", "--set", f"tracking.uri={uri}", "--set", "search.trials=2")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
        workspace.call(*search)
        study = workspace.folder / "runs/digits-1"
        refused = workspace.call("sync", study, code=1)
        assert "lacks 2 of 2 trials of study digits-1: " in refused.err
        assert "You are not authenticated" in refused.err
        assert refused.err.count("\n") == 1
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret-word")
        sent = workspace.call("sync", study)
        assert f"sent: 2 of 2 trials, 2 models; {uri} has all of digits-1" in sent.out
        assert "s3cret" not in sent.out + sent.err
        recorded(study, uri)
        assert workspace.call("search", "spec.yaml", *search[2:], "--json").document["run_id"]
        recorded(workspace.folder / "runs/digits-2", uri)
    for file in workspace.folder.rglob("*"):
        assert not file.is_file() or b"s3cret" not in file.read_bytes(), file


@pytest.mark.long
@pytest.mark.slow
def test_a_study_that_was_killed_or_goes_on_is_sent_as_it_stands(workspace: Workspace) -> None:
    running = workspace.fork(
        "search", "spec.yaml", *SLOW, "--set", "tracking.enabled=false", "--set", "search.trials=6"
    )
    running.wait_until_it_says("trial 1")
    study, uri = workspace.folder / "runs/digits-1", f"sqlite:///{workspace.folder}/mlflow.db"
    refused = workspace.call("sync", study, code=2)
    assert "another session is working on" in refused.err
    assert not (study / "mlflow.json").exists()
    running.end_by(signal.SIGKILL)
    first = workspace.call("sync", study, "--json").document
    found = recorded(study, uri)
    assert first["sent"]["trials"] == len(found.runs) >= 2
    assert found.parent.info.status == "KILLED"
    assert not workspace.call("resume", study, "--json").document["interrupted"]
    assert workspace.call("sync", study, "--json").document["sent"]["trials"] == 6 - len(found.runs)
    after = recorded(study, uri)
    assert after.runs > found.runs
    assert after.parent.info.run_id == first["run_id"]
    assert after.parent.info.status == "FINISHED"


@pytest.mark.slow
def test_a_study_is_sent_to_several_stores_and_stays_that_of_its_own(searched: Workspace, empty_database: Path) -> None:
    study = searched.folder / "runs/digits-1"
    own, other = (f"sqlite:///{searched.folder}/{name}.db" for name in ("mlflow", "other"))
    for name in ("mlflow.db", "other.db"):
        shutil.copy(empty_database, searched.folder / name)
    assert searched.call("sync", study, "--json").document["tracking_uri"] == own
    noted = (study / "mlflow.json").read_text()
    for sent in (5, 0):
        told = searched.call("sync", study, "--uri", "sqlite:///other.db", "--json").document
        assert (told["tracking_uri"], told["sent"]["trials"]) == (other, sent)
        assert (study / "mlflow.json").read_text() == noted
    assert recorded(study, own).parent.info.run_id != recorded(study, other).parent.info.run_id
    assert searched.call("sync", study, "--json").document["sent"] == {"trials": 0, "models": 0}
    for uri in ("http://127.0.0.1:9", "nonsense://x"):
        refused = searched.call("sync", study, "--uri", uri, code=1)
        assert refused.err.startswith(f"autoprune: MLflow at {uri} lacks 5 of 5 trials of study digits-1: ")
        assert refused.err.count("\n") == 1


FRESH = """
import json, sys, warnings
import numpy as np, torch
import mlflow, autoprune
inputs = np.random.default_rng(0).random((3, 1, 8, 8), dtype=np.float32)
said = {}
for alias in sys.argv[1:]:
    uri = f"models:/digits@{alias}"
    with torch.no_grad():
        network = autoprune.load_pruned(uri)(torch.from_numpy(inputs)).tolist()
    said[alias] = network, mlflow.pyfunc.load_model(uri).predict(inputs).tolist()
json.dump(said, sys.stdout)
"""


@pytest.mark.slow
def test_the_best_of_the_front_have_aliases(searched: Workspace, empty_database: Path) -> None:
    study, uri = searched.folder / "runs/digits-1", f"sqlite:///{searched.folder}/mlflow.db"
    shutil.copy(empty_database, searched.folder / "mlflow.db")
    told = searched.call("sync", study, "--register", "digits", "--json").document
    versions = told["registered"]["digits"]
    assert all(version["new"] for version in versions.values())
    trials = {alias: version["trial"] for version in versions.values() for alias in version["aliases"]}
    result = read_study(study)
    pruned = [point.trial for point in result.front.points if point.trial.origin != "dense"]
    assert trials["most-accurate"] == max(pruned, key=lambda trial: trial.metrics["accuracy"].value).number
    assert trials["balanced"] == result.select().trial.number
    assert trials.keys() <= {"most-accurate", "safest", "balanced", "smallest"}, "no time and no attack is an objective"

    with quietly():
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        some, last = min(versions), max(versions)
        for alias, number in (("fastest", some), ("champion", some), ("balanced", last), ("safest", some)):
            client.set_registered_model_alias("digits", alias, number)
    again = searched.call("sync", study, "--register", "digits")
    assert again.out.count("as before") == len(versions)
    with quietly():
        assert len(client.search_model_versions("name = 'digits'")) == len(versions)
        names = client.get_registered_model("digits").aliases
    assert {alias: versions[str(number)]["trial"] for alias, number in names.items()} == trials | {
        "champion": versions[some]["trial"]
    }, "it is the user's own"

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FRESH, *trials], capture_output=True, check=True, text=True,
        cwd=searched.folder, env=searched.environment | {"MLFLOW_TRACKING_URI": uri},
    )  # fmt: skip
    said = json.loads(done.stdout[done.stdout.index("{") :])
    inputs = torch.from_numpy(np.random.default_rng(0).random((3, 1, 8, 8), dtype=np.float32))
    for alias, number in trials.items():
        with torch.no_grad():
            expected = autoprune.load_pruned(result.models[number])(inputs).numpy()
        for outputs in said[alias]:
            np.testing.assert_array_equal(np.float32(outputs), expected)


@pytest.mark.slow
def test_what_cannot_be_registered_is_one_line(searched: Workspace) -> None:
    study = searched.folder / "runs/digits-1"
    assert "is no name for a registered model" in searched.call("sync", study, "--register", "a/b", code=2).err
    assert not (study / "mlflow.json").exists(), "nothing was sent"
    shutil.rmtree(study / "models")
    refused = searched.call("sync", study, "--register", "digits", code=2)
    assert "has no saved model; autoprune resume" in refused.err
