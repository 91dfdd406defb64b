from __future__ import annotations

import csv
import json
import math

import pytest

from autoprune.plugin import Measured
from autoprune.report import REPORT_FILES, front_summary, front_table, report_files, trials_table, write_report


@pytest.fixture
def study(synthetic, tmp_path):
    return synthetic.study(tmp_path / "study", objectives=3, trials=30)


@pytest.fixture
def outcome(synthetic, study):
    return synthetic.outcome(study, synthetic.trials(30))


def test_front_table_has_the_dense_model_first_and_validation_beside_test(synthetic, study):
    outcome = synthetic.outcome(study, synthetic.trials(30))
    without_dense = outcome.front.model_copy(update={"points": outcome.front.points[1:]})
    rows = front_table(outcome.model_copy(update={"front": without_dense}))
    assert [row["trial"] for row in rows] == [0, *(p.trial.number for p in without_dense.points)]
    assert [row["on_front"] for row in rows] == [False] + [True] * len(without_dense.points)
    for row, point in zip(rows[1:], without_dense.points, strict=True):
        accuracy = point.trial.metrics["accuracy"]
        assert (row["accuracy"], row["accuracy_low"]) == (accuracy.value, accuracy.low)
        assert row["test_accuracy"] == point.test["accuracy"].value
        assert row["mean_ratio"] == pytest.approx(sum(point.trial.achieved.values()) / 6)
    assert rows[0]["test_accuracy"] == outcome.dense_test["accuracy"].value
    assert len({tuple(row) for row in rows}) == 1, "all rows have the same columns"
    assert "macs" in rows[0]
    assert "macs_low" not in rows[0], "exact metrics have no interval"


def test_objectives_come_first(outcome):
    columns = list(front_table(outcome)[0])
    assert (
        columns.index("accuracy")
        < columns.index("latency_ms")
        < columns.index("robust_accuracy")
        < columns.index("macs")
    )


def test_trials_table_has_every_trial_with_asked_and_achieved_ratios(outcome):
    rows = trials_table(outcome)
    assert [row["trial"] for row in rows] == list(range(30))
    assert (rows[8]["state"], rows[8]["accuracy"], rows[8]["feasible"]) == ("failed", None, False)
    assert rows[8]["reason"] == outcome.trials[8].reason
    for row, trial in zip(rows, outcome.trials, strict=True):
        assert {g: row[f"ratio/{g}"] for g in trial.ratios} == trial.ratios
        assert {g: row[f"achieved/{g}"] for g in trial.achieved} == trial.achieved
    assert {r["trial"] for r in rows if r["on_front"]} == {p.trial.number for p in outcome.front.points}


@pytest.fixture
def _without_figures(monkeypatch):
    """Drawing takes seconds."""
    for name in ("front_figure", "ratios_figure"):
        monkeypatch.setattr(f"autoprune.report.files.{name}", lambda *_: "")


@pytest.mark.usefixtures("_without_figures")
def test_what_else_was_chosen_has_columns_where_there_is_any(synthetic, study, outcome):
    for table in (front_table(outcome), trials_table(outcome)):
        assert not any(column.startswith("knob") for column in table[0])
    knobs = [{"strategy.lr": 0.01 * t.number} if t.number else {} for t in outcome.trials]
    trials = [t.model_copy(update={"knobs": chosen}) for t, chosen in zip(outcome.trials, knobs, strict=True)]
    chosen = synthetic.outcome(study, tuple(trials))
    assert [row["knob/strategy.lr"] for row in trials_table(chosen)] == [t.knobs.get("strategy.lr") for t in trials]
    for row in front_table(chosen):
        assert row["knob/strategy.lr"] == trials[row["trial"]].knobs.get("strategy.lr")
    files = report_files(study, chosen)
    front = json.loads(files["front.json"])
    assert [member["knobs"] for member in front["front"]] == [p.trial.knobs for p in chosen.front.points]
    assert tuple(files) == REPORT_FILES


@pytest.mark.slow
def test_files_hold_what_the_tables_hold(study, outcome, tmp_path):
    assert write_report(tmp_path, study, outcome) == tmp_path / "report.md"
    for name, rows in (("front.csv", front_table(outcome)), ("trials.csv", trials_table(outcome))):
        with (tmp_path / name).open(newline="") as file:
            read = list(csv.DictReader(file))
        assert read == [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows]
    front = json.loads((tmp_path / "front.json").read_text(), parse_constant=pytest.fail)
    assert [member["trial"] for member in front["front"]] == [p.trial.number for p in outcome.front.points]
    first = outcome.front.points[0]
    assert front["front"][0]["achieved"] == first.trial.achieved
    assert front["front"][0]["test"]["accuracy"]["value"] == first.test["accuracy"].value
    assert front["dense"]["trial"] == 0
    assert {p.name for p in tmp_path.iterdir()} >= {"report.md", "front.svg", "ratios.svg"}


@pytest.mark.slow
def test_a_value_that_is_not_finite_is_left_out(synthetic, study, tmp_path):
    trials = list(synthetic.trials(6))
    odd = {"macs": Measured(value=math.inf), "loss": Measured(value=math.nan)}
    trials[1] = trials[1].model_copy(update={"metrics": trials[1].metrics | odd})
    outcome = synthetic.outcome(study, tuple(trials))
    assert trials_table(outcome)[1]["macs"] is None
    write_report(tmp_path, study, outcome)
    json.loads((tmp_path / "front.json").read_text(), parse_constant=pytest.fail)
    for name in ("report.md", "trials.csv", "front.csv"):
        assert "nan" not in (tmp_path / name).read_text().lower().replace("dominan", "")


def test_an_empty_study_still_has_a_report(synthetic, study, tmp_path):
    failed = tuple(synthetic.trial(n, state="failed") for n in range(3))
    outcome = synthetic.outcome(study, failed, tested=False)
    write_report(tmp_path, study, outcome)
    assert "No feasible trial among 3: 3 failed." in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "front.svg").exists()
    assert (tmp_path / "front.csv").read_text() == ""


@pytest.mark.slow
def test_what_the_search_had_measured_is_beside_what_it_is_now(synthetic, study, outcome):
    assert not any(column.startswith(("searched_", "whole_test_")) for column in front_table(outcome)[0])
    again = synthetic.made_again(outcome)
    rows = {row["trial"]: row for row in front_table(again)}
    for point in again.front.points:
        row = rows[point.trial.number]
        if point.searched:
            assert row["searched_accuracy"] == point.searched["accuracy"].value == pytest.approx(row["accuracy"] - 0.01)
            assert row["whole_test_accuracy"] is None
    assert rows[0]["searched_accuracy"] is None
    assert rows[0]["whole_test_accuracy"] == again.dense_whole_test["accuracy"].value
    titles, _ = front_summary(study, again)
    assert "accuracy, 1,000 of 10,000 test samples" in titles
    written = json.loads(report_files(study, again)["front.json"])
    assert written["test_part"] == [1000, 10_000]
    assert written["dense"]["whole_test"]["accuracy"]["value"] == again.dense_whole_test["accuracy"].value
    assert [m["searched"].get("accuracy", {}).get("value") for m in written["front"]] == [
        p.searched["accuracy"].value if p.searched else None for p in again.front.points
    ]
