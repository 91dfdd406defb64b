"""The study in real storages, killed after every single write."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.storages import RDBStorage
from toy_plugin import ToyGenetic, ToySampler

from autoprune.errors import StudyError
from autoprune.plugin import Choice, Cost, Measured, Metric, Range, SearchedGroup, TrialResult
from autoprune.study.front import Finals
from autoprune.study.guide import Guide
from autoprune.study.storage import Study

PARAMETERS = (Range("ratio.a", 0.0, 0.9), Range("ratio.b", 0.1, 0.5), Choice("strategy", ("s", "t")))
GROUPS = (
    SearchedGroup(name="a", units=10, step=1, fewest=0, most=9, parameter="ratio.a", low=0.0, high=0.9),
    SearchedGroup(name="b", units=10, step=1, fewest=1, most=5, parameter="ratio.b", low=0.1, high=0.5),
)
FIRST = [
    ("dense", {"ratio.a": 0.0, "ratio.b": 0.1, "strategy": "s"}),
    ("ladder", {"ratio.a": 0.45, "ratio.b": 0.45, "strategy": "s"}),
]


def costs(cut_units, choices):
    return {name: 20.0 - cut_units.sum(axis=1) for name in ("params", "macs", "bytes", "nonzero", "share")}


GUIDE = Guide(
    parameters=PARAMETERS,
    metrics={
        "distance": Metric("distance", "", "minimize", Cost.FORWARD),
        "share": Metric("share", "", "minimize", Cost.EXACT),
    },
    groups=GROUPS,
    scorers=("l1", "l2"),
    knobs=PARAMETERS[2:],
    meetings=((0, 1),),
    costs=costs,
)


def open_study(spec, journal: Path, *, sampler=None, new=False, name="study") -> Study:
    return Study(name, spec=spec, guide=GUIDE, sampler=sampler or ToyGenetic(), journal=journal, new=new)


def outcome(proposal, *, seed=0) -> TrialResult:
    """A deterministic result: trial 3 fails, 5 is rejected, large ratios are infeasible."""
    a, b = proposal.params["ratio.a"], proposal.params["ratio.b"]
    state = {3: "failed", 5: "rejected"}.get(proposal.number, "complete")
    metrics = {"distance": a * a + b, "share": 1 - a * b}
    now = datetime.now(UTC)
    return TrialResult(
        number=proposal.number, state=state, origin=proposal.origin, ratios={"a": a, "b": b}, achieved={"a": a, "b": b},
        scorers={"a": "l1"}, strategy=str(proposal.params["strategy"]), seed=seed, started=now, finished=now,
        metrics={k: Measured(value=v, samples=3) for k, v in metrics.items()} if state == "complete" else {},
        violations={"share": a - 0.5} if state != "failed" else {}, reason=None if state == "complete" else "why",
    )  # fmt: skip


def go_on(study: Study, total: int) -> None:
    study.enqueue(FIRST[:total])
    for proposal in study.unfinished():
        study.tell(outcome(proposal))
    while study.begun < total:
        study.tell(outcome(study.ask()))


def told(study: Study) -> list[tuple]:
    return [(r.number, r.origin, r.state, r.ratios, r.strategy, r.metrics, r.violations) for r in study.results]


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch):
    """What a process wrote survives its death without a sync; only a machine's crash needs one."""
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def relax(connection, _):
        connection.execute("PRAGMA synchronous=OFF")

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", relax)
    yield
    sqlalchemy.event.remove(sqlalchemy.engine.Engine, "connect", relax)


@pytest.fixture
def constrained(spec):
    return spec("constraints={share: <= 0.5}")


def test_proposals_come_in_order_and_results_come_back_whole(constrained, tmp_path):
    study = open_study(constrained, tmp_path / "journal", new=True)
    study.enqueue(FIRST)
    first = [study.ask(), study.ask(), study.ask()]
    assert [(p.number, p.origin) for p in first] == [(0, "dense"), (1, "ladder"), (2, "sampler")]
    assert [p.params for p in first[:2]] == [params for _, params in FIRST]
    assert 0 <= first[2].params["ratio.a"] <= 0.9
    assert 0.1 <= first[2].params["ratio.b"] <= 0.5
    results = [outcome(p, seed=9) for p in first]
    for result in results[::-1]:
        study.tell(result)
    assert study.results == results
    assert open_study(constrained, tmp_path / "journal").results == results


def test_optuna_knows_states_values_constraints_and_attributes(constrained, tmp_path):
    """What Optuna's dashboard and other samplers see."""
    study = open_study(constrained, tmp_path / "journal", new=True)
    go_on(study, 7)
    (stored,) = optuna.get_all_study_summaries(_journal(tmp_path / "journal"))
    raw = optuna.load_study(study_name=stored.study_name, storage=_journal(tmp_path / "journal"))
    assert [d.name for d in raw.directions] == ["MINIMIZE", "MINIMIZE"]
    states = [t.state.name for t in raw.trials]
    assert states == ["COMPLETE"] * 3 + ["FAIL", "COMPLETE", "PRUNED", "COMPLETE"]
    for trial, result in zip(raw.trials, study.results, strict=True):
        assert trial.params["ratio.a"] == result.ratios["a"]
        if result.state == "complete":
            assert trial.values == [result.metrics["distance"].value, result.metrics["share"].value]
        if result.state != "failed":  # relative to the bound, 0.5
            assert trial.constraints == {"share": pytest.approx(result.violations["share"] / 0.5)}


def test_the_queued_trials_are_in_the_first_generation(constrained, tmp_path):
    study = open_study(constrained, tmp_path / "journal", new=True)
    go_on(study, 8)
    raw = optuna.load_study(study_name="study", storage=_journal(tmp_path / "journal"))
    generations = [t.system_attrs.get("NSGAIISampler:generation") for t in raw.trials]
    assert generations[:3] == [0, 0, 0]
    assert max(generations) >= 1


@pytest.fixture
def uninterrupted(constrained, tmp_path):
    study = open_study(constrained, tmp_path / "whole", new=True)
    go_on(study, 9)
    assert len(study.results) == 9
    return told(study)


@pytest.mark.slow
def test_a_journal_cut_after_any_write_leads_to_the_same_study(constrained, tmp_path, uninterrupted):
    lines = (tmp_path / "whole").read_text().splitlines(keepends=True)
    for end in range(len(lines)):
        path = tmp_path / f"cut-{end}"
        path.write_text("".join(lines[:end]))
        study = open_study(constrained, path)
        go_on(study, 9)
        assert told(study) == uninterrupted, f"cut after line {end}: {lines[end - 1]}"
        path.unlink()


def test_half_a_line_and_a_dead_writers_lock_do_no_harm(constrained, tmp_path, uninterrupted):
    text = (tmp_path / "whole").read_text()
    path = tmp_path / "torn"
    path.write_text(text[: text.index("\n", len(text) // 2) - 1])
    assert not path.read_text().endswith("\n")
    (tmp_path / "torn.lock").touch()
    study = open_study(constrained, path)
    go_on(study, 9)
    assert told(study) == uninterrupted


class _Killed(Exception):
    pass


@pytest.fixture
def sqlite(spec):
    return spec("constraints={share: <= 0.5}", "search.storage=sqlite:///optuna.db")


@pytest.mark.slow
@pytest.mark.parametrize(("write", "after"), [(2, True), (20, False), (44, True)])
def test_sqlite_killed_at_a_write_leads_to_the_same_study(sqlite, tmp_path, uninterrupted, monkeypatch, write, after):
    """The storage raises once, like a process that dies there."""
    writes = ["create_new_trial", "set_trial_param", "set_trial_state_values", "set_trial_user_attr"]
    writes += ["set_trial_system_attr", "set_study_system_attr"]
    count = [0]

    def dying(method: Callable) -> Callable:
        def call(*args, **kwargs):
            count[0] += 1
            if count[0] == write and not after:
                raise _Killed
            answer = method(*args, **kwargs)
            if count[0] == write:
                raise _Killed
            return answer

        return call

    for name in writes:
        monkeypatch.setattr(RDBStorage, name, dying(getattr(RDBStorage, name)))
    study = open_study(sqlite, tmp_path / "unused", new=True)
    with pytest.raises(_Killed):
        go_on(study, 9)
    study.close()
    study = open_study(sqlite, tmp_path / "unused")
    go_on(study, 9)
    assert told(study) == uninterrupted
    study.close()
    assert not (tmp_path / "unused").exists()


def test_a_trial_left_running_is_handed_out_again_under_its_number(constrained, tmp_path):
    study = open_study(constrained, tmp_path / "journal", new=True)
    asked = [study.ask() for _ in range(3)]
    study.tell(outcome(asked[1]))
    again = open_study(constrained, tmp_path / "journal")
    assert again.unfinished() == [asked[0], asked[2]]
    assert again.begun == 3


def test_sessions_propose_by_seed_and_number_alone(spec, tmp_path):
    def three(seed, path, *, sessions):
        made = []
        for _ in range(sessions):
            made_of = spec(f"search.seed={seed}", "constraints={share: <= 0.5}")
            study = open_study(made_of, tmp_path / path, sampler=ToySampler())
            for _ in range(6 // sessions):
                made.append(study.ask())
                study.tell(outcome(made[-1]))
        return made

    assert three(1, "a", sessions=1) == three(1, "b", sessions=6)
    assert three(1, "a2", sessions=1) != three(2, "c", sessions=1)
    ratios = [p.params["ratio.a"] for p in three(1, "d", sessions=1)]
    assert len(set(ratios)) == 6, "no proposal is repeated"


def test_a_trial_waits_for_the_disk_once_when_it_is_told(constrained, tmp_path, monkeypatch):
    study = open_study(constrained, tmp_path / "journal", new=True)
    study.enqueue(FIRST)
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    proposals = [study.ask(), study.ask(), study.ask()]
    assert not synced
    for proposal in proposals:
        study.tell(outcome(proposal))
    assert len(synced) == 3
    assert synced[-1] == (tmp_path / "journal").stat().st_size, "after all that is written"


@pytest.mark.slow
def test_a_name_that_is_taken_is_refused(sqlite, tmp_path):
    open_study(sqlite, tmp_path / "journal", new=True).close()
    with pytest.raises(StudyError, match="the storage has a study called 'study' already"):
        open_study(sqlite, tmp_path / "journal", new=True)
    open_study(sqlite, tmp_path / "journal", new=True, name="other").close()


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/optuna.db", "weird://host/db"])
def test_a_storage_that_cannot_be_opened_is_told(spec, tmp_path, url):
    with pytest.raises(StudyError, match=r"search\.storage cannot be opened: "):
        open_study(spec(f"search.storage={url}"), tmp_path / "journal", new=True)


def test_test_results_are_remembered(constrained, tmp_path):
    study = open_study(constrained, tmp_path / "journal", new=True)
    assert study.finals == Finals()
    measured = {"distance": Measured(value=0.25, low=0.2, high=0.3, samples=16)}
    study.record_test(4, measured)
    assert open_study(constrained, tmp_path / "journal").finals.tests == {4: measured}


def test_optuna_stays_quiet_and_keeps_its_own_settings(constrained, tmp_path, capfd):
    before = optuna.logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        go_on(open_study(constrained, tmp_path / "journal", new=True), 6)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before == optuna.logging.INFO


def test_a_journal_is_lines_of_json_that_any_tool_reads(constrained, tmp_path):
    go_on(open_study(constrained, tmp_path / "journal", new=True), 3)
    assert all(json.loads(line) for line in (tmp_path / "journal").read_text().splitlines())
    assert {entry.name for entry in tmp_path.iterdir()} == {"spec.yaml", "journal"}


def _journal(path: Path) -> optuna.storages.JournalStorage:
    from optuna.storages.journal import JournalFileBackend

    return optuna.storages.JournalStorage(JournalFileBackend(str(path)))
