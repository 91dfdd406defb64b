"""``sync`` of studies that are made up; tests/integration tries it with real ones."""

from __future__ import annotations

import pytest

from autoprune.errors import TrackingError
from autoprune.tracking import _records
from autoprune.tracking.sync import send

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    """The report's figures take a second a study."""
    monkeypatch.setattr(_records, "report_files", lambda *_: {})


def test_nothing_is_sent_twice_and_what_the_last_session_said_stays(
    synthetic, run_study, with_models, assert_complete, stored, uri, tmp_path
):
    study = synthetic.study(tmp_path / "study", uri=uri)
    outcome = run_study(study, with_models(study, synthetic.trials(5)))
    before = stored(study, uri)
    elder = study.model_copy(update={"environment": study.environment | {"device": "cuda", "gpu": "an old one"}})
    sent = send(elder, outcome)
    assert (sent.trials, sent.models) == (0, 0)
    after = assert_complete(study, uri, outcome)
    assert {run.info.run_id for run in after.trials.values()} == {run.info.run_id for run in before.trials.values()}
    assert after.parent.info.run_id == before.parent.info.run_id
    assert after.parent.info.status == "FINISHED"
    assert after.parent.data.tags["env.device"] == "cpu"
    assert after.parent.data.tags["mlflow.note.content"] == before.parent.data.tags["mlflow.note.content"]


@pytest.mark.parametrize(
    ("search", "tested", "status"),
    [
        ({}, True, "KILLED"),
        ({"patience": 2}, True, "FINISHED"),
        ({"timeout": "1m"}, True, "FINISHED"),
        ({"patience": 2}, False, "KILLED"),
    ],
)
def test_a_search_that_its_own_limits_ended_was_not_killed(synthetic, stored, uri, tmp_path, search, tested, status):
    study = synthetic.study(tmp_path / "study", uri=uri, search={"trials": 24, **search})
    outcome = synthetic.outcome(study, synthetic.trials(3), tested=tested).model_copy(update={"interrupted": True})
    assert send(study, outcome).trials == 3
    assert stored(study, uri).parent.info.status == status


def test_what_mlflow_does_not_take_is_an_error(synthetic, uri, tmp_path):
    (tmp_path / "mlartifacts").write_text("a file where the folder should be")
    study = synthetic.study(tmp_path / "study", uri=uri)
    with pytest.raises(
        TrackingError, match=rf"^MLflow at {uri} lacks the spec of study synthetic: .*[Nn]ot a directory"
    ):
        send(study, synthetic.outcome(study, synthetic.trials(2)))
