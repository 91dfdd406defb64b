from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autoprune.tracking import _MlflowTracker, _records
from autoprune.tracking._store import Store, quietly


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


@pytest.fixture
def _no_report(monkeypatch):
    """The report's figures take a second a study and are not what is tested here."""
    monkeypatch.setattr(_records, "report_files", lambda *_: {})


@pytest.fixture
def resume(synthetic):
    """Go on with a study in a new session: a fresh tracker, and what the first one knew is gone."""

    def go_on(study, results, *, known, outcome=None):
        tracker = _MlflowTracker()
        study = study.model_copy(update={"finished": results[:known]})
        facts = tracker.autoprune_study_started(study)
        for result in results[known:]:
            tracker.autoprune_trial_finished(study, result)
        outcome = outcome or synthetic.outcome(study, results)
        tracker.autoprune_study_finished(study, outcome)
        return outcome, facts

    return go_on


@pytest.mark.slow
def test_a_resumed_study_goes_on_in_the_same_run(synthetic, run_study, resume, stored, assert_complete, uri, tmp_path):
    study = synthetic.study(tmp_path / "study", uri=uri, trials=4)
    results = synthetic.trials(8)
    run_study(study, results[:4], interrupted=True)
    before = stored(study, uri)
    more = study.model_copy(update={"trials": 8, "environment": study.environment | {"device": "cuda"}})
    outcome, facts = resume(more, results, known=4)
    after = assert_complete(more, uri, outcome)
    assert facts["run_id"] == after.parent.info.run_id == before.parent.info.run_id
    assert {n: run.info.run_id for n, run in before.trials.items()} == {
        n: after.trials[n].info.run_id for n in before.trials
    }, "no trial was recorded again"
    assert (before.parent.info.status, after.parent.info.status) == ("KILLED", "FINISHED")
    assert after.parent.data.tags["env.device"] == "cuda"
    assert after.parent.data.tags["autoprune.trials"] == "8"
    left = [n for n, run in before.trials.items() if run.data.tags["autoprune.front"] == "true"]
    left = [n for n in left if after.trials[n].data.tags["autoprune.front"] == "false"]
    for number in left:
        assert after.trials[number].data.tags["mlflow.note.content"].startswith("Dominated.")


@pytest.mark.slow
def test_the_run_is_running_again_while_the_study_is(synthetic, run_study, tracker, stored, uri, tmp_path):
    study = synthetic.study(tmp_path / "study", uri=uri)
    results = synthetic.trials(2)
    run_study(study, results)
    tracker.autoprune_study_started(study.model_copy(update={"finished": results}))
    assert stored(study, uri).parent.info.status == "RUNNING"


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("_no_report")
def test_killed_after_any_write_nothing_is_lost_or_twice(
    synthetic, resume, assert_complete, uri, tmp_path, monkeypatch
):
    """Session one dies right after its n-th write to MLflow; session two makes it whole. For every n."""
    results = synthetic.trials(3)
    writes = ("create", "log", "end", "text", "tag_experiment")
    finished_unharmed = False
    for n in range(1, 40):
        study = synthetic.study(tmp_path / f"study-{n}", uri=uri, trials=3)
        left = n

        def dying(original):
            def write(*args, **kwargs):
                nonlocal left
                answer = original(*args, **kwargs)
                left -= 1
                if left == 0:
                    raise Killed
                return answer

            return write

        known = 0
        tracker = _MlflowTracker()
        with monkeypatch.context() as patch:
            for name in writes:
                patch.setattr(Store, name, dying(getattr(Store, name)))
            try:
                tracker.autoprune_study_started(study)
                for known, result in enumerate(results, start=1):  # noqa: B007 - the study has told it before we record
                    tracker.autoprune_trial_finished(study, result)
                finished_unharmed = True
            except Killed:
                pass
        outcome, _ = resume(study, results, known=known)
        found = assert_complete(study, uri, outcome)
        assert "search.sampler.use" in found.parent.data.params
        if finished_unharmed:
            break
    assert finished_unharmed, "every write of the session was the last one once"
    with quietly():
        from mlflow import MlflowClient

        parents = MlflowClient(uri).search_runs(["1"], "tags.`autoprune.role` = 'study'", max_results=1000)
    assert len(parents) == n, "no study has two runs"


@pytest.mark.slow
@pytest.mark.usefixtures("_no_report")
def test_sigkill_before_a_trial_is_whole(synthetic, resume, stored, assert_complete, uri, tmp_path):
    program = """
import importlib.util, os, pathlib, signal, sys
from autoprune.tracking import _MlflowTracker
from autoprune.tracking._store import Store
path, folder, uri = sys.argv[1:]
spec = importlib.util.spec_from_file_location("synthetic", path)
synthetic = importlib.util.module_from_spec(spec)
spec.loader.exec_module(synthetic)
study, tracker = synthetic.study(pathlib.Path(folder), uri=uri, trials=4), _MlflowTracker()
tracker.autoprune_study_started(study)
tracker.autoprune_trial_finished(study, synthetic.trial(0))
Store.end = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
tracker.autoprune_trial_finished(study, synthetic.trial(1))
"""
    arguments = [synthetic.__file__, tmp_path / "study", uri]
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL
    study = synthetic.study(tmp_path / "study", uri=uri, trials=4)
    assert [run.info.status for _, run in sorted(stored(study, uri).trials.items())] == ["FINISHED", "RUNNING"]
    outcome, _ = resume(study, synthetic.trials(4), known=2)
    assert_complete(study, uri, outcome)


@pytest.mark.slow
@pytest.mark.usefixtures("_no_report")
def test_a_half_written_trial_that_has_left_the_front_meanwhile(
    synthetic, tracker, resume, assert_complete, uri, tmp_path, monkeypatch
):
    study = synthetic.study(tmp_path / "study", uri=uri)
    results = synthetic.trials(4)
    best = {name: m.model_copy(update={"value": m.value * 2}) for name, m in results[3].metrics.items()}
    best["latency_ms"] = best["latency_ms"].model_copy(update={"value": 0.1})
    results = (*results[:3], results[3].model_copy(update={"metrics": best}))
    tracker.autoprune_study_started(study)
    with monkeypatch.context() as patch:

        def die(*args, **kwargs):
            raise Killed

        patch.setattr(Store, "log", die)
        with pytest.raises(Killed):
            tracker.autoprune_trial_finished(study, results[0])
    outcome, _ = resume(study, results, known=4)
    assert [point.trial.number for point in outcome.front.points] == [3]
    assert_complete(study, uri, outcome)


@pytest.mark.slow
@pytest.mark.usefixtures("_no_report")
def test_runs_that_should_not_be_there_go_and_the_users_stay(
    synthetic, run_study, resume, stored, assert_complete, uri, tmp_path
):
    study = synthetic.study(tmp_path / "study", uri=uri)
    results = synthetic.trials(4)
    run_study(study, results[:3], interrupted=True)
    found = stored(study, uri)
    parent = found.parent.info.run_id
    with quietly():
        tags = {"mlflow.parentRunId": parent}
        for number in ("1", "1", "77"):
            found.client.create_run("1", tags=tags | {"autoprune.role": "trial", "autoprune.trial": number})
        mine = found.client.create_run("1", tags=tags, run_name="final training").info.run_id
    outcome, _ = resume(study, results, known=3)
    assert_complete(study, uri, outcome)
    with quietly():
        assert found.client.get_run(mine).info.lifecycle_stage == "active"


@pytest.mark.slow
@pytest.mark.usefixtures("_no_report")
@pytest.mark.parametrize("gone", ["deleted", "other store", "mlflow.json"])
def test_a_study_whose_run_is_gone_is_recorded_anew(
    synthetic, run_study, resume, stored, assert_complete, uri, tmp_path, gone, empty_database
):
    study = synthetic.study(tmp_path / "study", uri=uri)
    results = synthetic.trials(4)
    run_study(study, results[:3], interrupted=True)
    found = stored(study, uri)
    if gone == "deleted":
        found.client.delete_run(found.parent.info.run_id)
    elif gone == "other store":
        shutil.copy(empty_database, tmp_path / "other.db")
        uri = f"sqlite:///{tmp_path / 'other.db'}"
        study = synthetic.study(tmp_path / "study", uri=uri)
    else:
        (study.folder / "mlflow.json").write_text("{broken")
    outcome, facts = resume(study, results, known=3)
    after = assert_complete(study, uri, outcome)
    assert facts["run_id"] == after.parent.info.run_id
    assert after.parent.info.run_id != found.parent.info.run_id


@pytest.mark.slow
@pytest.mark.usefixtures("_no_report")
def test_a_default_database_is_found_again_from_another_folder(
    synthetic, run_study, resume, stored, assert_complete, empty_database, tmp_path, monkeypatch
):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    shutil.copy(empty_database, tmp_path / "here" / "mlflow.db")
    study = synthetic.study(tmp_path / "study")
    results = synthetic.trials(3)
    monkeypatch.chdir(tmp_path / "here")
    run_study(study, results[:2], interrupted=True)
    monkeypatch.chdir(tmp_path / "there")
    outcome, _ = resume(study, results, known=2)
    uri = f"sqlite:///{tmp_path / 'here' / 'mlflow.db'}"
    assert_complete(study, uri, outcome)
    assert not list(Path.cwd().iterdir())
    assert json.loads((study.folder / "mlflow.json").read_text())["tracking_uri"] == uri


@pytest.mark.slow
def test_a_model_that_was_made_again_takes_the_others_place(
    synthetic, run_study, resume, with_models, stored, uri, tmp_path
):
    """A session was interrupted before that, and MLflow has the models of the search."""
    study = synthetic.study(tmp_path / "study", uri=uri, trials=6)
    results = with_models(study, synthetic.trials(6))
    run_study(study, results, interrupted=True)
    again = synthetic.made_again(synthetic.outcome(study, results))
    made = [point.trial for point in again.front.points if point.searched]
    assert 0 < len(made) < len(again.front.points)
    with_models(study, made, seed=1)
    resume(study, results, known=6, outcome=again)
    found = stored(study, uri)
    for point in again.front.points:
        run = found.trials[point.trial.number]
        with quietly():
            kept = found.client.download_artifacts(run.info.run_id, f"study-trial-{point.trial.number}/pruned")
        metrics, note = run.data.metrics, run.data.tags["mlflow.note.content"]
        weights = "weights.safetensors"
        assert (Path(kept) / weights).read_bytes() == (point.trial.model / weights).read_bytes()
        searched = (point.searched or point.trial.metrics)["accuracy"].value
        assert metrics["objective/accuracy"] == pytest.approx(searched, rel=1e-5)
        assert metrics["test/accuracy"] == pytest.approx(point.test["accuracy"].value, rel=1e-5)
        assert ("whole_test/accuracy" in metrics) == bool(point.whole_test)
        assert "`test/…` is of 1,000 of 10,000 test samples." in note
        if point.searched:
            assert metrics["refined/accuracy"] == pytest.approx(point.trial.metrics["accuracy"].value, rel=1e-5)
            assert "Made again by its strategy's final version, such as a larger repair" in note
        else:
            assert "refined/accuracy" not in metrics
            assert "Made again" not in note
