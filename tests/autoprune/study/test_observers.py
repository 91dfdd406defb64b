"""Observers, told by hand: the spec's components and the hooks, none of which may harm the study or one another."""

from __future__ import annotations

import csv
import json
import logging
from types import SimpleNamespace
from typing import ClassVar

import pytest

from autoprune.host.plugins import PluginHost
from autoprune.plugin import Observer, hookimpl
from autoprune.report import REPORT_FILES
from autoprune.study.observers import Observers


class Csv(Observer):
    """A line for each trial, as a third party would write one."""

    name = "csv"
    delimiter: str = ","

    def study_started(self, study, ctx):
        return {"csv": str(ctx.folder / "trials.csv")}

    def trial_finished(self, study, result, ctx):
        numbers = ctx.memo("numbers", list)
        numbers.append(result.number)
        with (ctx.folder / "trials.csv").open("w", newline="") as file:
            csv.writer(file, delimiter=self.delimiter).writerows([n, ctx.seed] for n in numbers)


class Clumsy(Observer):
    """Takes the study's folder for its own."""

    name = "clumsy"
    writes: str = "spec.yaml"
    told: ClassVar[list] = []

    def trial_finished(self, study, result, ctx):
        (study.folder / self.writes).write_text(f"trial {result.number}")
        self.told.append(result.number)


class Broken(Observer):
    name = "broken"

    def study_started(self, study, ctx):
        raise RuntimeError("no\nserver")

    def trial_finished(self, study, result, ctx):
        raise SystemExit("leaving")


OWN = {
    "spec.yaml": "name: s\n",
    "study.json": "{}",
    "info.json": '{"a": 1}',
    "journal.log": "1\n",
    "front.csv": "a,b\n",
}


@pytest.fixture
def study(tmp_path):
    for name, text in OWN.items():
        (tmp_path / name).write_text(text)
    return SimpleNamespace(folder=tmp_path)


@pytest.fixture
def telling(study):
    host = PluginHost([])

    def make(*components):
        return Observers(host, components, study=study.folder, seed=7)

    make.host = host
    return make


def trial(number):
    return SimpleNamespace(number=number)


def own(study):
    return {name: (study.folder / name).read_text() for name in OWN}


def test_each_has_a_folder_a_memory_and_the_seed(telling, study):
    observers = telling(Csv(), Clumsy(writes="mine"), Csv(delimiter=";"))
    assert observers.started(study) == {"csv": str(study.folder / "observers" / "csv-2" / "trials.csv")}
    for number in (0, 1):
        observers.finished_trial(study, trial(number))
    folder = study.folder / "observers"
    assert (folder / "csv" / "trials.csv").read_text().split() == ["0,7", "1,7"]
    assert (folder / "csv-2" / "trials.csv").read_text().split() == ["0;7", "1;7"]
    assert sorted(entry.name for entry in folder.iterdir()) == ["clumsy", "csv", "csv-2"]


def test_one_that_raises_is_warned_about_once_and_stops_nobody(telling, study, caplog):
    observers = telling(Broken(), Csv(), Broken())
    with caplog.at_level(logging.WARNING, "autoprune"):
        observers.started(study)
        for number in (0, 1):
            observers.finished_trial(study, trial(number))
    assert [record.getMessage() for record in caplog.records] == [
        f"observer {name} failed in study_started and may miss what follows: RuntimeError: no server"
        for name in ("broken", "broken-2")
    ]
    assert (study.folder / "observers" / "csv" / "trials.csv").read_text().split() == ["0,7", "1,7"]


@pytest.mark.parametrize("name", ["spec.yaml", "info.json", "front.csv"])
def test_one_that_overwrites_the_studys_files_is_found_out_and_they_are_put_back(telling, study, caplog, name):
    observers = telling(Csv(), Clumsy(writes=name))
    with caplog.at_level(logging.WARNING, "autoprune"):
        for number in (0, 1):
            observers.finished_trial(study, trial(number))
    assert own(study) == OWN
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"observer clumsy wrote {name} into the study's folder, where that is the study's own")
    assert (study.folder / "observers" / "clumsy" / name).read_text() == "trial 1", "nothing that it wrote is lost"


def test_a_file_that_only_the_report_will_write_is_the_studys_too(telling, study, caplog):
    telling(Clumsy(writes="report.md")).finished_trial(study, trial(3))
    assert not (study.folder / "report.md").exists()
    assert (study.folder / "observers" / "clumsy" / "report.md").read_text() == "trial 3"
    assert "wrote report.md" in caplog.text
    assert "report.md" in REPORT_FILES


def test_what_the_study_itself_writes_between_calls_stays(telling, study, caplog):
    observers = telling(Csv(), Clumsy(writes="spec.yaml"))
    observers.finished_trial(study, trial(0))
    (study.folder / "study.json").write_text(json.dumps({"trials": 9}))
    (study.folder / "spec.yaml").write_text("name: new\n")
    observers.finished_trial(study, trial(1))
    assert (study.folder / "study.json").read_text() == '{"trials": 9}'
    assert (study.folder / "spec.yaml").read_text() == "name: new\n"
    assert "study.json" not in caplog.text


def test_hooks_are_held_to_the_same(telling, study, caplog):
    class Hooked:
        @hookimpl
        def autoprune_trial_finished(self, study):
            (study.folder / "info.json").unlink()
            (study.folder / "spec.yaml").write_text("mine")

    with telling.host.observed([Hooked()]):
        telling(Csv()).finished_trial(study, trial(0))
    assert own(study) == OWN
    assert "Hooked wrote spec.yaml, info.json into" in caplog.text
    (kept,) = [entry for entry in (study.folder / "observers").iterdir() if entry.name.endswith("Hooked")]
    assert (kept / "spec.yaml").read_text() == "mine"
