"""Our journal beside Optuna's own, on the same file."""

from __future__ import annotations

import os

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from autoprune.study.journal import Journal

KINDS = {"ours": Journal, "optuna's": lambda path: JournalFileBackend(str(path))}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal"


@pytest.fixture(autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def opened(kind, path):
    sampler = optuna.samplers.RandomSampler(seed=0)
    storage = JournalStorage(KINDS[kind](path))
    return optuna.create_study(storage=storage, study_name="s", load_if_exists=True, sampler=sampler)


def add_trials(study, count):
    for _ in range(count):
        trial = study.ask()
        trial.set_user_attr("text", "two\nlines, ein Ümlaut\u2028and 'more'")
        study.tell(trial, trial.suggest_float("x", 0, 1) + (trial.suggest_categorical("c", ["a", "b"]) == "a"))


@pytest.mark.parametrize(("first", "second"), [("ours", "optuna's"), ("optuna's", "ours"), ("ours", "ours")])
def test_a_study_goes_on_whoever_wrote_it(path, first, second):
    study = opened(first, path)
    add_trials(study, 3)
    again = opened(second, path)
    assert again.trials == study.trials
    add_trials(again, 2)
    assert opened(first, path).trials == again.trials
    assert len(again.trials) == 5


def test_what_another_process_adds_meanwhile_is_seen(path):
    ours, other = opened("ours", path), opened("optuna's", path)
    add_trials(ours, 2)
    other.set_user_attr("note", "from a dashboard")
    add_trials(ours, 1)
    assert ours.user_attrs == {"note": "from a dashboard"}
    assert ours.trials == other.trials


def test_half_a_line_of_another_process_waits_for_its_end(path):
    study = opened("ours", path)
    study.set_user_attr("note", "old")
    line = path.read_bytes().splitlines(keepends=True)[-1].replace(b"old", b"new")
    with path.open("ab") as file:
        file.write(line[:20])
        file.flush()
        assert study.user_attrs == {"note": "old"}
        file.write(line[20:])
    assert study.user_attrs == {"note": "new"}


def test_half_a_line_that_nobody_will_end_goes(path):
    add_trials(opened("ours", path), 1)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 4, "wor')
    journal = Journal(path)
    assert path.read_bytes() == whole
    journal.append_logs([{"a": 1}, {"b": 2}])
    assert list(journal.read_logs(0))[-2:] == [{"a": 1}, {"b": 2}]


def test_lines_can_be_read_from_any_on(path):
    journal = Journal(path)
    journal.append_logs([{"n": n} for n in range(5)])
    for start in (0, 3, 1, 5):
        assert [log["n"] for log in journal.read_logs(start)] == list(range(start, 5))


def test_a_write_that_the_system_splits_is_finished(path, monkeypatch):
    journal, write = Journal(path), os.write
    monkeypatch.setattr(os, "write", lambda file, text: write(file, text[:7]))
    journal.append_logs([{"n": "x" * 50}])
    assert list(journal.read_logs(0)) == [{"n": "x" * 50}]


def test_closing_twice_does_no_harm_and_what_follows_is_refused(path):
    journal = Journal(path)
    journal.close()
    journal.close()
    with pytest.raises(OSError):
        journal.append_logs([{}])
