"""Members of the front as MLflow models."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
import yaml

import autoprune
from autoprune.errors import StructureError
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Inputs, SourceContext
from autoprune.structure import CutStep, Plan, Recipe, write_pruned
from autoprune.tracking import _MlflowTracker, _records
from autoprune.tracking._models import MemberModel
from autoprune.tracking._store import Store, quietly
from autoprune.tracking._stored import StoredModel
from autoprune_sources.factory import Factory

INPUTS = np.random.default_rng(0).random((3, 1, 8, 8), dtype=np.float32)
NET = """
import torch
from torch import nn

def net(width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 3))

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(5, 4), nn.Linear(4, 2)

    def forward(self, tokens, mask=None):
        hidden = (self.embedding(tokens) * mask.unsqueeze(-1)).mean(1)
        return {"logits": self.head(hidden), "boxes": [hidden, "no tensor", hidden[:, :2]]}
"""


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    monkeypatch.setattr(_records, "report_files", lambda *_: {})


def said(folder: Path, **options) -> np.ndarray:
    with torch.no_grad():
        return autoprune.load_pruned(folder, **options)(torch.from_numpy(INPUTS)).numpy()


def models_of(found):
    """READY ones by trial number; a model that is not ready fails the test."""
    with quietly():
        page = found.client.search_logged_models([found.parent.info.experiment_id], max_results=1000)
    assert all(str(model.status) == "READY" for model in page)
    return page


def files_of(model) -> Path:
    return Path(urlsplit(model.artifact_location).path)


FRESH = """
import json, sys, warnings
import numpy as np, torch
import mlflow, autoprune
uris, inputs = json.load(sys.stdin)
inputs = np.array(inputs, dtype=np.float32)
mlflow.register_model(uris[0], "digits")
mlflow.MlflowClient().set_registered_model_alias("digits", "balanced", 1)
said = {}
for uri in [*uris, "models:/digits/1", "models:/digits@balanced"]:
    with torch.no_grad():
        network = autoprune.load_pruned(uri)(torch.from_numpy(inputs)).tolist()
    said[uri] = network, mlflow.pyfunc.load_model(uri).predict(inputs).tolist()
json.dump(said, sys.stdout)
"""


@pytest.mark.slow
def test_every_member_opens_in_a_fresh_process(synthetic, with_models, run_study, stored, uri, tmp_path):
    study = synthetic.study(tmp_path / "digits-1", uri=uri)
    outcome = run_study(study, with_models(study, synthetic.trials(3)))
    found = stored(study, uri)
    points = {p.trial.number: p for p in outcome.front.points}
    uris = {number: found.trials[number].data.tags["autoprune.model"] for number in points}
    given = json.dumps([list(uris.values()), INPUTS.tolist()])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FRESH], input=given, stdout=subprocess.PIPE, check=True, text=True,
        cwd=tmp_path, env=_environment(uri),
    )  # fmt: skip
    told = json.loads(done.stdout[done.stdout.index("{") :])
    for number, point in points.items():
        for outputs in told[uris[number]]:
            np.testing.assert_array_equal(np.float32(outputs), said(point.trial.model))
        assert f'mlflow.pyfunc.load_model("{uris[number]}")' in found.trials[number].data.tags["mlflow.note.content"]
    assert told["models:/digits/1"] == told["models:/digits@balanced"] == told[next(iter(uris.values()))]

    models = models_of(found)
    assert {model.name for model in models} == {f"digits-1-trial-{number}" for number in points}, "the front alone"
    for model in models:
        number = int(model.tags["autoprune.trial"])
        assert model.source_run_id == found.trials[number].info.run_id
        measured = {metric.key: metric.value for metric in model.metrics}
        assert measured["objective/accuracy"] == pytest.approx(points[number].trial.metrics["accuracy"].value, rel=1e-5)
        assert measured["test/latency_ms"] == pytest.approx(points[number].test["latency_ms"].value, rel=1e-5)
        check_files(files_of(model), tmp_path)


def check_files(folder: Path, home: Path) -> None:
    """Of one model: nothing pickled, no path of this machine, and MLflow knows what it takes."""
    from mlflow.models import Model

    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    names.discard("registered_model_meta")  # what registering leaves in the one model
    assert names == {
        "MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "input_example.json",
        "serving_input_example.json", "pruned/recipe.json", "pruned/weights.safetensors",
    }  # fmt: skip
    assert str(home) not in (folder / "pruned/recipe.json").read_text()
    assert yaml.safe_load((folder / "MLmodel").read_text())["flavors"].keys() == {"python_function"}
    assert b"cloudpickle" not in (folder / "MLmodel").read_bytes()
    requirements = dict(line.split("==") for line in (folder / "requirements.txt").read_text().split())
    assert requirements["torch"] == torch.__version__.partition("+")[0]
    assert requirements.keys() == {"autoprune", "mlflow", "torch"}
    meta = Model.load(str(folder))
    assert [tensor.shape for tensor in meta.signature.inputs.inputs] == [(-1, 1, 8, 8)]
    assert [tensor.shape for tensor in meta.signature.outputs.inputs] == [(-1, 10)]
    assert meta.load_input_example(str(folder)).shape == (1, 1, 8, 8)


def _environment(uri):
    return {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}


@pytest.mark.slow
def test_over_http(synthetic, with_models, run_study, stored, server, tmp_path, monkeypatch):
    study = synthetic.study(tmp_path / "study", uri=server.uri)
    outcome = run_study(study, with_models(study, synthetic.trials(3)))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    runs = stored(study, server.uri).trials
    for point in outcome.front.points:
        opened = autoprune.load_pruned(runs[point.trial.number].data.tags["autoprune.model"])
        with torch.no_grad():
            np.testing.assert_array_equal(opened(torch.from_numpy(INPUTS)).numpy(), said(point.trial.model))
    autoprune.save_pruned(opened, tmp_path / "tuned")
    np.testing.assert_array_equal(said(tmp_path / "tuned"), said(point.trial.model))
    with pytest.raises(StructureError, match=r"^runs:/0+/model cannot be had of MLflow at http:.*MLFLOW_TRACKING_URI"):
        autoprune.load_pruned(f"runs:/{'0' * 32}/model")


@pytest.mark.slow
def test_code_that_a_recipe_names_runs_only_if_trusted(
    synthetic, with_models, run_study, stored, uri, tmp_path, monkeypatch
):
    import mlflow

    (tmp_path / "my_tracked_net.py").write_text(NET)
    study = synthetic.study(tmp_path / "study", uri=uri)
    source = Factory(target="my_tracked_net:net", args={"width": 6})
    outcome = run_study(study, with_models(study, synthetic.trials(2), source=source))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    point = outcome.front.points[0]
    tags = stored(study, uri).trials[point.trial.number].data.tags
    where = tags["autoprune.model"]
    assert f'load_pruned("{where}", trust=True)' in tags["mlflow.note.content"]
    assert "which is looked for in the current folder first" in tags["mlflow.note.content"]
    for opening in (autoprune.load_pruned, mlflow.pyfunc.load_model):
        with pytest.raises(StructureError, match=r"my_tracked_net:net.*trust=True .*model_config=\{\"trust\": True\}"):
            opening(where)
    with pytest.raises(StructureError, match="my_tracked_net:net"):
        mlflow.pyfunc.load_model(where, model_config={"trust": "true"})
    expected = said(point.trial.model, trust=True)
    trusted = mlflow.pyfunc.load_model(where, model_config={"trust": True})
    np.testing.assert_array_equal(trusted.predict(INPUTS), expected)
    assert isinstance(trusted.get_raw_model(), torch.nn.Sequential)
    monkeypatch.setenv("MLFLOW_PYFUNC_INFERENCE_CONFIG", '{"trust": true}')
    np.testing.assert_array_equal(mlflow.pyfunc.load_model(where).predict(INPUTS), expected)
    np.testing.assert_array_equal(said(where, trust=True), expected)
    dense = source.build(SourceContext(tmp_path, tmp_path, 7))
    np.testing.assert_array_equal(said(where, dense=dense), expected)


@pytest.mark.slow
def test_several_inputs_and_outputs_have_names(synthetic, tmp_path):
    import mlflow

    (tmp_path / "my_two_inputs.py").write_text(NET)
    study = synthetic.study(tmp_path / "study")
    source, ctx = Factory(target="my_two_inputs:Two"), SourceContext(tmp_path, tmp_path, 0)
    tokens, mask = torch.tensor([[1, 2, 4], [0, 3, 3]]), torch.tensor([[1.0, 1, 0], [1, 1, 1]])
    network = source.build(ctx).eval()
    write_pruned(
        study.folder / "m", network, plan=Plan({}), kept={}, cut_units={}, source=source, ctx=ctx,
        example=Inputs((tokens,), {"mask": mask}),
    )  # fmt: skip
    point = synthetic.outcome(study, synthetic.trials(1)).front.points[0]
    member = MemberModel.of(study, point, "0" * 32, study.folder / "m", host=PluginHost())
    with quietly():
        member.pack(tmp_path / "packed", StoredModel("m-1", member.run_id, "", ready=False, tags={}))
        model = mlflow.pyfunc.load_model(str(tmp_path / "packed"), model_config={"trust": True})
        returned = model.predict({"0": tokens.numpy(), "mask": mask.numpy()})
        example = model.predict(model.input_example)
    with torch.no_grad():
        expected = network(tokens, mask=mask)
    assert {name: array.shape for name, array in example.items()} == {
        "logits": (1, 2),
        "boxes.0": (1, 4),
        "boxes.2": (1, 2),
    }
    np.testing.assert_array_equal(returned["logits"], expected["logits"].numpy())
    np.testing.assert_array_equal(returned["boxes.2"], expected["boxes"][2].numpy())
    assert [t.shape for t in model.metadata.signature.inputs.inputs] == [(-1, -1), (-1, 3)]
    assert {t.name for t in model.metadata.signature.outputs.inputs} == set(example)


def test_how_a_model_is_opened_says_what_it_takes(synthetic, tmp_path):
    study, host = synthetic.study(tmp_path / "study"), PluginHost()
    point = synthetic.outcome(study, synthetic.trials(1)).front.points[0]
    (tmp_path / "bert").mkdir()

    def told(model, **recipe):
        folder = tmp_path / "m"
        folder.mkdir(exist_ok=True)
        whole = Recipe(model=model, folder=tmp_path, steps=(CutStep(),), **recipe)
        (folder / "recipe.json").write_text(whole.model_dump_json())
        return MemberModel.of(study, point, "0" * 32, folder, host=host).how_to_open

    plain = told({"use": "digits-cnn"}, mean=(0.5,), std=(0.25,))
    assert "trust" not in plain
    assert "It takes inputs after `(x - mean) / std`, mean [0.5], std [0.25]." in plain
    assert "built from `bert`" in told({"use": "huggingface", "path": str(tmp_path / "bert")})
    live = told({"use": "live"})
    assert "dense=network" in live
    assert "pyfunc" not in live
    assert "trust=True" in told({"use": "of-a-notebook"}), "a class that was handed over in Python"
    assert "brings code along, `thin.py`" in told({"use": "digits-cnn"}, plugins=("thin.py",))
    assert "trust" not in told({"use": "of-a-notebook"}, form="graph")


@pytest.mark.slow
def test_a_resumed_study_stores_no_model_twice(synthetic, with_models, run_study, stored, uri, tmp_path):
    study = synthetic.study(tmp_path / "study", uri=uri)
    results = with_models(study, synthetic.trials(6))
    first = run_study(study, results[:4], interrupted=True)
    before = {model.model_id: model for model in models_of(stored(study, uri))}
    assert len(before) == len(first.front.points)
    outcome = run_study(study.model_copy(update={"finished": results[:4]}), results)
    found = stored(study, uri)
    after = {model.model_id: model for model in models_of(found)}
    assert before.keys() <= after.keys(), "a model that has left the front may be registered"
    members = {str(point.trial.number) for point in outcome.front.points}
    assert sorted({m.tags["autoprune.trial"] for m in before.values()} | members) == sorted(
        m.tags["autoprune.trial"] for m in after.values()
    )
    assert {m.tags["autoprune.trial"] for m in after.values() if m.tags["autoprune.front"] == "true"} == members
    for run in found.trials.values():
        assert ("load_pruned(" in run.data.tags["mlflow.note.content"]) == (run.data.tags["autoprune.trial"] in members)


class Killed(BaseException):
    """The process dies."""


class Ending:
    """Raises right after the n-th write of a model."""

    WRITES = ("create_model", "model_files", "end_model")

    def __init__(self, n, error):
        self.left, self.error = n, error

    def after(self, original):
        def write(*args, **kwargs):
            answer = original(*args, **kwargs)
            self.left -= 1
            if self.left == 0:
                raise self.error
            return answer

        return write


def session(study, outcome):
    tracker = _MlflowTracker()
    tracker.autoprune_study_started(study)
    for result in outcome.trials[len(study.finished) :]:
        tracker.autoprune_trial_finished(study, result)
    with suppress(Killed):
        tracker.autoprune_study_finished(study, outcome)


@pytest.mark.slow
@pytest.mark.parametrize("how", [pytest.param(Killed, marks=pytest.mark.long), ConnectionError])
def test_killed_or_cut_off_while_models_are_stored_nothing_is_lost_or_twice(
    synthetic, with_models, stored, uri, tmp_path, monkeypatch, caplog, how
):
    """The first session ends right after its n-th write of a model; the second one makes it whole. For every n."""
    caplog.set_level(logging.WARNING)
    for n in range(1, 2 * len(Ending.WRITES) + 1):
        study = synthetic.study(tmp_path / f"study-{n}", uri=uri)
        outcome = synthetic.outcome(study, with_models(study, synthetic.trials(2)))
        ending = Ending(n, how)
        with monkeypatch.context() as patch:
            for name in Ending.WRITES:
                patch.setattr(Store, name, ending.after(getattr(Store, name)))
            session(study, outcome)
        assert ending.left == 0
        session(study.model_copy(update={"finished": outcome.trials}), outcome)
        found = stored(study, uri)
        mine = [model for model in models_of(found) if model.name.startswith(f"study-{n}-")]
        assert sorted(model.name for model in mine) == [f"study-{n}-trial-{number}" for number in (0, 1)]
        for model in mine:
            assert (files_of(model) / "pruned/weights.safetensors").is_file()
            assert any(metric.key == "test/accuracy" for metric in model.metrics)
        for run in found.trials.values():
            assert "load_pruned(" in run.data.tags["mlflow.note.content"]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == (n if how is ConnectionError else 0)
    assert all("lacks the models of study" in line for line in told)


@pytest.mark.slow
def test_a_folder_without_a_model_holds_no_other_back(synthetic, with_models, run_study, stored, uri, tmp_path, caplog):
    study = synthetic.study(tmp_path / "study", uri=uri)
    results = with_models(study, synthetic.trials(2))
    (results[0].model / "recipe.json").write_text("{}")
    run_study(study, results)
    assert [model.name for model in models_of(stored(study, uri))] == ["study-trial-1"]
    (record,) = caplog.records
    assert "lacks the model of trial 0" in record.getMessage()


def test_where_no_store_is_none_is_made(tmp_path):
    with pytest.raises(
        StructureError, match=r"^models:/digits/1 cannot be had of MLflow at sqlite:.*MLFLOW_TRACKING_URI"
    ):
        autoprune.load_pruned("models:/digits/1")
    assert not list(tmp_path.iterdir())
