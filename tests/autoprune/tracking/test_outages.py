from __future__ import annotations

import logging
import os
import re
import socket
import sqlite3
import sys
import threading

import pytest

from autoprune.tracking import _records


@pytest.fixture(autouse=True)
def _no_report(request, monkeypatch):
    """The report's figures take a second a study; one test here is about them."""
    if "report" not in request.node.name:
        monkeypatch.setattr(_records, "report_files", lambda *_: {})


@pytest.fixture
def warnings(caplog):
    """The warnings so far."""
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.slow
def test_over_http(synthetic, run_study, assert_complete, tracker, server, tmp_path, capfd):
    study = synthetic.study(tmp_path / "study", uri=server.uri, objectives=3)
    facts = tracker.autoprune_study_started(study)
    page = f"{server.uri}/#/experiments/{facts['experiment_id']}/runs"
    assert facts["url"] == f"{page}/{facts['run_id']}?workflowType=machine_learning"
    assert facts["view"].startswith(f"{page}?viewStateShareKey=autoprune-{facts['run_id']}")
    assert "hint" not in facts
    outcome = run_study(study, synthetic.trials(3))
    assert capfd.readouterr() == ("", "")
    found = assert_complete(study, server.uri, outcome)
    assert found.artifacts[found.parent.info.run_id] == {"spec.yaml", "front_table.json"}


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back(synthetic, tracker, assert_complete, server, tmp_path, warnings):
    study = synthetic.study(tmp_path / "study", uri=server.uri)
    results = synthetic.trials(8)
    tracker.autoprune_study_started(study)
    for result in results[:3]:
        tracker.autoprune_trial_finished(study, result)
    server.kill()
    for result in results[3:6]:
        tracker.autoprune_trial_finished(study, result)
    assert len(warnings()) == 1, "one warning, however many trials"
    # How the connection that was open ends depends on when the kernel tells of the server's death.
    told = rf"MLflow at {server.uri} cannot record trials\. The search goes on; .*Connection (refused|reset|aborted)"
    assert re.search(told, warnings()[0])
    server.start()
    tracker._recorders[study.folder]._wait_until = 0.0  # the pause after a failure is over
    tracker.autoprune_trial_finished(study, results[6])
    assert_complete(study, server.uri, synthetic.outcome(study, results[:7]))
    tracker.autoprune_trial_finished(study, results[7])
    outcome = synthetic.outcome(study, results)
    tracker.autoprune_study_finished(study, outcome)
    assert_complete(study, server.uri, outcome)
    assert len(warnings()) == 1


def test_a_server_that_stays_away(synthetic, run_study, tmp_path, warnings):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://me:secret@127.0.0.1:{free.getsockname()[1]}"
    study = synthetic.study(tmp_path / "study", uri=uri)
    run_study(study, synthetic.trials(4))
    first, last = warnings()
    assert "cannot record trials. The search goes on" in first
    assert f"lacks 4 of 4 trials of study synthetic; send what is missing with: autoprune sync {study.folder}." in last
    assert "secret" not in first + last


@pytest.mark.slow
def test_a_server_that_never_answers_costs_one_short_wait(synthetic, tracker, tmp_path, warnings, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # what the user sets holds
    calls = []
    with socket.create_server(("127.0.0.1", 0)) as hole:

        def swallow():
            while True:
                try:
                    calls.append(hole.accept()[0])
                except OSError:
                    return

        listener = threading.Thread(target=swallow, daemon=True)
        listener.start()
        study = synthetic.study(tmp_path / "study", uri=f"http://127.0.0.1:{hole.getsockname()[1]}")
        assert tracker.autoprune_study_started(study) is None
        assert len(calls) == 1, "no second try"
        for result in synthetic.trials(5):
            tracker.autoprune_trial_finished(study, result)
        assert len(calls) == 1, "after a wait of 1 s the next trials are not held up"
        tracker.autoprune_study_finished(study, synthetic.outcome(study, synthetic.trials(5)))
        assert len(calls) == 2, "the end is worth one more try"
        hole.shutdown(socket.SHUT_RDWR)
    listener.join(10)
    for call in calls:
        call.close()
    assert "timed out" in warnings()[0]
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("nonsense://nowhere", "nonsense"),
        ("sqlite:///{folder}/text.db/mlflow.db", "File exists|Not a directory"),
        ("sqlite:///{folder}", "unable to open database file"),
        ("sqlite:///{folder}/text.db", "file is not a database"),
        ("{folder}/mlruns", "filesystem tracking backend"),
        ("http://no-such-host.invalid", "Name or service not known|name resolution"),
    ],
)
def test_a_bad_uri_is_told_once_and_stops_nothing(synthetic, tracker, tmp_path, warnings, uri, said):
    (tmp_path / "text.db").write_text("this is no database, " * 100)
    study = synthetic.study(tmp_path / "study", uri=uri.format(folder=tmp_path))
    assert tracker.autoprune_study_started(study) is None
    tracker.autoprune_trial_finished(study, synthetic.trial(0))
    assert len(warnings()) == 1
    assert re.search(said, warnings()[0])


@pytest.mark.slow
def test_a_deleted_experiment_is_told(synthetic, tracker, uri, tmp_path, warnings):
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    client.delete_experiment(client.create_experiment("synthetic"))
    assert tracker.autoprune_study_started(synthetic.study(tmp_path / "study", uri=uri)) is None
    assert "restore it, or set tracking.experiment to another" in warnings()[0]


@pytest.mark.slow
def test_a_locked_database(synthetic, tracker, assert_complete, uri, tmp_path, warnings):
    study = synthetic.study(tmp_path / "study", uri=uri)
    results = synthetic.trials(4)
    tracker.autoprune_study_started(study)
    tracker.autoprune_trial_finished(study, results[0])
    other = sqlite3.connect(tmp_path / "mlflow.db")
    other.execute("BEGIN EXCLUSIVE")
    tracker.autoprune_trial_finished(study, results[1])
    tracker._recorders[study.folder]._wait_until = 0.0  # a second attempt, which has to connect anew
    tracker.autoprune_trial_finished(study, results[2])
    other.close()
    tracker.autoprune_trial_finished(study, results[3])
    outcome = synthetic.outcome(study, results)
    tracker.autoprune_study_finished(study, outcome)
    assert_complete(study, uri, outcome)
    assert len(warnings()) == 1
    assert "database is locked" in warnings()[0]


@pytest.mark.slow
def test_a_database_that_is_full(synthetic, tracker, uri, tmp_path, warnings, assert_complete):
    """SQLite answers a full disk as it answers a file at its largest size, which needs no full disk."""
    import sqlalchemy

    study = synthetic.study(tmp_path / "study", uri=uri)
    results = synthetic.trials(6)
    tracker.autoprune_study_started(study)
    tracker.autoprune_trial_finished(study, results[0])
    limit = 0

    def before(connection, _):
        if limit:
            connection.execute(f"PRAGMA max_page_count = {limit}")

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", before)
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "checkout", lambda c, r, _: before(c, r))
    try:
        limit = 1  # no page more than there are
        for place, result in enumerate(results[1:4]):
            big = {f"g{n}-{place}": 0.5 for n in range(400)}
            results = tuple(r.model_copy(update={"ratios": big}) if r is result else r for r in results)
            tracker.autoprune_trial_finished(study, results[place + 1])
        assert "database or disk is full" in warnings()[0]
        limit = 10**9
        for result in results[4:]:
            tracker.autoprune_trial_finished(study, result)
        outcome = synthetic.outcome(study, results)
        tracker.autoprune_study_finished(study, outcome)
    finally:
        limit = 0
    assert_complete(study, uri, outcome)


@pytest.mark.slow
def test_artifacts_that_cannot_be_stored_leave_the_report_out(
    synthetic, run_study, assert_complete, uri, tmp_path, warnings
):
    (tmp_path / "mlartifacts").write_text("a file where the folder should be")
    study = synthetic.study(tmp_path / "study", uri=uri)
    outcome = run_study(study, synthetic.trials(4))
    found = assert_complete(study, uri, outcome)
    assert found.parent.info.status == "FINISHED"
    assert "study/hypervolume" in found.parent.data.metrics
    first, last = warnings()
    assert "cannot record the spec" in first
    assert "lacks the report of study synthetic" in last


@pytest.mark.slow
def test_a_view_that_is_refused_is_not_missed(
    synthetic, run_study, assert_complete, uri, tmp_path, monkeypatch, warnings
):
    from autoprune.tracking._store import Store

    def refuse(*_):
        raise RuntimeError("no tags here")

    monkeypatch.setattr(Store, "tag_experiment", refuse)
    study = synthetic.study(tmp_path / "study", uri=uri)
    assert_complete(study, uri, run_study(study, synthetic.trials(3)))
    assert not warnings()


def test_mlflow_that_is_missing_stops_nothing(synthetic, run_study, tmp_path, warnings, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    study = synthetic.study(tmp_path / "study")
    run_study(study, synthetic.trials(2))
    told = "nothing is tracked. MLflow is not installed: pip install 'autoprune[mlflow]'; afterwards, autoprune sync"
    assert warnings() == [f"{told} {study.folder} sends what was searched"]
    assert not study.folder.exists()


def test_mlflow_that_cannot_be_imported_stops_nothing(synthetic, tracker, tmp_path, warnings, monkeypatch):
    (tmp_path / "mlflow.py").write_text("raise ImportError('mlflow needs another numpy')")
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    study = synthetic.study(tmp_path / "study")
    assert tracker.autoprune_study_started(study) is None
    tracker.autoprune_trial_finished(study, synthetic.trial(0))
    assert "mlflow needs another numpy" in warnings()[0]
