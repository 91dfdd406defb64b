from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from autoprune.tracking._store import quietly
from tests.mlflow_server import Server

TERMINAL = ("FINISHED", "FAILED", "KILLED")


@pytest.fixture(scope="session")
def synthetic():
    """The module that makes studies up."""
    path = Path(__file__).parent.parent / "report" / "synthetic.py"
    specification = importlib.util.spec_from_file_location("synthetic", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path):
    """Whatever the developer's environment says, and wherever they stand."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def uri(empty_database, tmp_path):
    """A SQLite database that already has its tables, which take MLflow seconds to make."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def tracker():
    """A tracker with no studies, as a plugin host calls it."""
    from autoprune.tracking import _MlflowTracker

    return _MlflowTracker()


@pytest.fixture
def run_study(tracker, synthetic):
    """Run a study through the hooks; gives the outcome."""

    def run(study, results, **changes):
        tracker.autoprune_study_started(study)
        for result in results[len(study.finished) :]:
            tracker.autoprune_trial_finished(study, result)
        outcome = synthetic.outcome(study, results).model_copy(update=changes)
        tracker.autoprune_study_finished(study, outcome)
        return outcome

    return run


@pytest.fixture
def stored():
    """What MLflow holds of the study in that folder: its run and the trials' runs by number."""
    import json

    def read(study, uri):
        with quietly():
            from mlflow import MlflowClient

            client = MlflowClient(uri)
            state = json.loads((study.folder / "mlflow.json").read_text())
            parent = client.get_run(state["run_id"])
            query = f"tags.mlflow.parentRunId = '{parent.info.run_id}' and tags.`autoprune.role` = 'trial'"
            runs = client.search_runs([parent.info.experiment_id], query, max_results=1000)
            numbers = [int(run.data.tags["autoprune.trial"]) for run in runs]
            assert len(set(numbers)) == len(numbers), f"a trial has several runs: {sorted(numbers)}"
            artifacts = {
                run.info.run_id: {a.path for a in client.list_artifacts(run.info.run_id)} for run in [parent, *runs]
            }
        return SimpleNamespace(
            client=client, parent=parent, trials=dict(zip(numbers, runs, strict=True)), artifacts=artifacts
        )

    return read


@pytest.fixture
def assert_complete(stored):
    """Exactly one ended run per finished trial, with all that belongs to it, and the front's membership right."""

    def check(study, uri, outcome):
        found = stored(study, uri)
        assert sorted(found.trials) == [result.number for result in outcome.trials]
        members = {point.trial.number for point in outcome.front.points}
        for result in outcome.trials:
            run = found.trials[result.number]
            status = {"complete": "FINISHED", "failed": "FAILED", "rejected": "KILLED"}[result.state]
            assert run.info.status == status
            assert run.info.end_time == int(result.finished.timestamp() * 1000)
            sections = ("objective/", "other/") if result.state == "complete" else "partial/"
            metrics = {k.split("/", 1)[1]: v for k, v in run.data.metrics.items() if k.startswith(sections)}
            assert metrics == pytest.approx(
                {name: measured.value for name, measured in result.metrics.items()}, rel=1e-5
            )
            params = {k: v for k, v in run.data.params.items() if k.startswith("ratio/")}
            assert len(params) == len(result.ratios)
            assert run.data.tags["autoprune.front"] == str(result.number in members).lower()
        return found

    return check


@pytest.fixture(scope="session")
def _server(empty_database, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"), empty_database)
    yield server
    server.kill()


@pytest.fixture
def server(_server):
    """A server that is up."""
    _server.start()
    return _server


@pytest.fixture(scope="session")
def with_models():
    """Give each trial a real saved model, of the digits' net with weights of its own."""

    def give(study, results, *, seed=0, source=None):
        return tuple(r.model_copy(update={"model": save_model(study, r.number, seed, source)}) for r in results)

    return give


def save_model(study, number, seed=0, source=None):
    """Save a small model as that of a trial; gives its folder."""
    import torch

    from autoprune.plugin import Inputs, Normalization, SourceContext
    from autoprune.structure import Plan, write_pruned
    from autoprune_sources.digits_cnn import DigitsCnn

    source = source or DigitsCnn(width=2)
    ctx = SourceContext(study.folder.parent.resolve(), study.folder, seed)
    network = source.build(SourceContext(ctx.folder, ctx.cache, 100 * seed + number)).eval()
    folder = study.folder / "models" / str(number)
    write_pruned(
        folder,
        network,
        plan=Plan({}),
        kept={},
        cut_units={},
        source=source,
        ctx=ctx,
        normalization=Normalization((0.25,), (0.5,)),
        example=Inputs((torch.rand(2, 1, 8, 8),)),
    )
    return folder
