"""What MLflow's pages are told: views and descriptions, as text."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from autoprune.plugin import Measured
from autoprune.report import picks, verdict
from autoprune.tracking._descriptions import Described, experiment_note, member_table, study_note
from autoprune.tracking._view import PAGE, SharedView, loading_order, shown_on


@pytest.fixture
def study(synthetic, tmp_path):
    return synthetic.study(tmp_path / "study", trials=400)


@pytest.fixture
def large(synthetic, study):
    """Its outcome, with 300 members along a curve."""

    def member(number):
        trial = synthetic.trial(number)
        along = number / 400
        values = {"accuracy": 0.97 - along**2, "latency_ms": 5.2 - 5 * along if number else 9.0}
        return trial.model_copy(update={"metrics": {name: Measured(value=value) for name, value in values.items()}})

    return synthetic.outcome(study, tuple(member(number) for number in range(300)))


def state_of(view):
    return json.loads(json.loads(view.value)["state"])


def test_a_front_that_the_page_loads_whole_is_in_the_order_of_the_first_objective(synthetic, study):
    outcome = synthetic.outcome(study, synthetic.trials(40))
    assert loading_order(study, outcome) == {}
    state = state_of(SharedView(study, "p", shown=len(shown_on(outcome))))
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`objective/accuracy`", False)
    assert SharedView(study, "p", shown=PAGE).name == "front · study"


def test_of_a_larger_front_the_page_loads_the_ends_and_what_the_report_names_and_says_that_it_is_a_part(study, large):
    order = loading_order(study, large)
    assert order.keys() == shown_on(large) == set(range(300))
    tags = [next(iter(tag.values())) for tag in order.values()]
    assert tags == sorted(tags), "as MLflow sorts text"
    first = list(order)[:PAGE]
    named = [pick.point.trial.number for pick in picks(study, large)]
    assert set(first[: len(named)]) == set(named)
    assert {0, 299} <= set(first)
    assert np.diff(sorted(first)).max() <= 8, "no gap of the front is much larger than the 3 of even places"
    view = SharedView(study, "p", shown=len(order))
    state = state_of(view)
    assert (state["orderByKey"], state["orderByAsc"]) == ("tags.`autoprune.order`", True)
    assert view.name == "100 of 300 on the front · study"
    note = study_note(study, large, Described("1", "p", str(study.folder), verdict(study, large)))
    assert "The view of the front loads 100 runs, spread over the front" in note


def test_a_dense_model_that_is_not_on_a_large_front_is_loaded_first(synthetic, study, large):
    dense = large.trials[0].model_copy(update={"metrics": {n: Measured(value=0.0) for n in ("accuracy", "latency_ms")}})
    points = tuple(point for point in large.front.points if point.trial.number)
    trials = (dense, *large.trials[1:])
    changed = large.model_copy(update={"trials": trials, "front": large.front.model_copy(update={"points": points})})
    assert next(iter(loading_order(study, changed))) == 0


def test_a_part_of_all_trials_is_called_one(study):
    assert SharedView(study, "p", everything=True, shown=400).name == "100 of 400 trials · study"
    assert SharedView(study, "p", everything=True, shown=40).name == "all trials · study"


def test_studies_of_an_experiment_are_told_apart_and_the_users_words_stay(synthetic):
    studies = [Described("7", f"run{place}", f"/runs/digits-{place}", f"verdict {place}") for place in range(14, 0, -1)]
    note = experiment_note("Our **own** words.", studies)
    assert note.startswith("Our **own** words.\n\n")
    assert [int(number) for number in re.findall(r"verdict (\d+)", note)] == list(range(14, 4, -1)), "the newest ten"
    assert "**digits-14: verdict 14**" in note
    assert "- digits-13: verdict 13 [front](#/experiments/7/runs?viewStateShareKey=autoprune-run13&" in note
    assert "4 older studies" in note
    again = experiment_note(note, studies)
    assert again == note, "written anew, not once more"
    assert experiment_note("", studies[:1]).count("digits") == 1


def test_a_long_description_loses_the_oldest_studies(synthetic):
    studies = [Described("7", f"run{place}", f"/runs/d-{place}", f"verdict {place} " + "x" * 800) for place in range(9)]
    note = experiment_note("", studies)
    assert len(note) < 5000
    assert "**d-0: verdict 0" in note
    assert "red failed" in note


def test_the_table_of_a_member_has_the_dense_model_beside_it(synthetic, study):
    outcome = synthetic.outcome(study, synthetic.trials(20))
    point = outcome.front.points[1]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in member_table(study, outcome, point).split("\n")
    ]
    assert rows[0] == ["", "dense, validation", "validation", "dense, test", "test"]
    assert [row[0] for row in rows[2:4]] == ["accuracy", "latency (ms)"], "objectives first"
    dense, own = outcome.trials[0].metrics["accuracy"], point.trial.metrics["accuracy"]
    assert rows[2][1] == f"{100 * dense.value:.1f} % ({100 * dense.low:.1f} to {100 * dense.high:.1f})"
    assert rows[2][2].startswith(f"{100 * own.value:.1f} % (")
    assert rows[2][4].startswith(f"{100 * point.test['accuracy'].value:.1f} % (")
    untested = synthetic.outcome(study, synthetic.trials(20), tested=False)
    assert member_table(study, untested, untested.front.points[1]).startswith("|  | dense, validation | validation |\n")
