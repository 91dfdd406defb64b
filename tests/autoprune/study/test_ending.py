"""When the trials are done: the front's members are made again and measured, each once, killed or not."""

from __future__ import annotations

import json
import logging
import signal
from pathlib import Path

import numpy as np
import pytest
import toy_plugin
from toy_driver import run_killed

from autoprune.plugin import dominates, hookimpl, losses
from autoprune.structure import load_pruned
from autoprune.study import ending, pareto_front, read_study, resume, search
from autoprune.study.ending import affordable, round_down
from autoprune.toolkit.spacing import spaced
from tests.fresh import started

BETTER, WORSE = "noise: 0.3, final_noise: 0.0", "noise: 0.0, final_noise: 0.5"
SLIGHTLY = "noise: 0.01, final_noise: 0.0"


@pytest.fixture
def refining(spec, tmp_path):
    """A spec whose strategy has a final version, which writes a log."""

    def make(*overrides, noise=BETTER, swap=None):
        made = ("use: toy-strategy", f"use: toy-strategy, {noise}, log: {tmp_path / 'log'}")
        return spec(*overrides, swap=swap or made)

    return make


@pytest.fixture
def a_part(monkeypatch):
    """There is no time for more than ten of the sixteen test samples."""
    monkeypatch.setattr(ending, "_LEAST", 10)
    monkeypatch.setattr(ending, "_seconds", lambda results: 0.0)


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def value_of(folder: Path, split: str) -> float:
    """The toy's distance of a saved model from the dense one."""
    import torch

    dense, data = toy_plugin.ToyModel().build(None), toy_plugin.ToyData().load(None)
    inputs, _ = data.split(split).fetch(torch.arange(len(data.split(split))))
    x = (inputs.first - 0.5) / 0.3
    with torch.no_grad():
        return (load_pruned(folder, dense=dense)(x) - dense(x)).abs().mean().item()


def essence(result):
    """What must not depend on when or in how many sessions a study ran."""
    points = [(p.trial.number, p.trial.metrics, p.searched, p.test, p.whole_test) for p in result.front.points]
    trials = [(t.number, t.origin, t.state, t.ratios, t.metrics, t.reason) for t in result.outcome.trials]
    return trials, points, result.outcome.dense_test, result.outcome.test_part


# Making the front's members again


def test_members_of_the_front_are_made_again_and_saved(refining, host, tmp_path):
    result = search(refining("search.trials=8"), host=host)
    searched = {t.number: t for t in pareto_front(result.outcome.trials, result.front.objectives)}
    assert len(lines(tmp_path / "log")) == len(searched) - 1, "each once, but for the dense model"
    again = [point for point in result.front.points if point.searched]
    assert again
    for point in again:
        before = searched[point.trial.number]
        assert point.searched == before.metrics == result.outcome.trials[before.number].metrics
        assert point.trial.metrics["distance"].value < before.metrics["distance"].value
        assert point.trial.metrics["share"] == before.metrics["share"]
        # The saved model is the one that was measured, on validation and on test.
        assert value_of(result.models[before.number], "validation") == pytest.approx(
            point.trial.metrics["distance"].value, rel=1e-4
        )
        assert value_of(result.models[before.number], "test") == pytest.approx(point.test["distance"].value, rel=1e-4)
    assert [p.searched for p in result.front.points if p.trial.origin == "dense"] in ([], [{}])
    # The front is that of the models as they are now, and there are no others.
    values = [losses(p.trial.metrics, result.front.objectives) for p in result.front.points]
    assert not any(dominates(one, other) for one in values for other in values)
    assert {entry.name for entry in (tmp_path / "study" / "models").iterdir()} == {str(n) for n in result.models}
    assert set(result.models) == {p.trial.number for p in result.front.points}
    document = json.loads(json.dumps(result.to_json()))
    assert all(e["searched"]["distance"] > e["metrics"]["distance"] for e in document["front"] if e["searched"])


def test_an_ended_study_is_read_as_it_ended_and_made_again_no_more(refining, host, tmp_path):
    result = search(refining("search.trials=6"), host=host)
    before = lines(tmp_path / "log")
    assert read_study(tmp_path / "study", host=host).outcome == result.outcome
    assert resume(tmp_path / "study", host=host).outcome == result.outcome
    assert lines(tmp_path / "log") == before


@pytest.mark.slow
def test_more_trials_have_new_members_made_again_alone(refining, host, tmp_path):
    first = search(refining("search.trials=2"), host=host)
    before = lines(tmp_path / "log")
    result = resume(tmp_path / "study", trials=12, host=host)
    added = lines(tmp_path / "log")[len(before) :]
    assert added
    assert not {line.rsplit(" ", 1)[0] for line in added} & {line.rsplit(" ", 1)[0] for line in before}
    values = [losses(p.trial.metrics, result.front.objectives) for p in result.front.points]
    for point in first.front.points:  # nothing was lost that is not beaten by what the front has now
        mine = losses(point.trial.metrics, first.front.objectives)
        assert mine in values or any(dominates(other, mine) for other in values)
    assert {entry.name for entry in (tmp_path / "study" / "models").iterdir()} == {str(n) for n in result.models}
    for point in result.front.points:
        assert value_of(point.trial.model, "validation") == pytest.approx(
            point.trial.metrics["distance"].value, rel=1e-4, abs=1e-6
        )


@pytest.fixture
def in_a_hurry(monkeypatch):
    """There is no time to make more than two members again."""
    monkeypatch.setattr(ending, "_SOME", 2)
    monkeypatch.setattr(ending, "_REFINING", 0.0)


@pytest.mark.slow
@pytest.mark.usefixtures("in_a_hurry")
def test_where_time_is_short_the_best_and_the_farthest_from_it_are_made_again(refining, host, tmp_path):
    result = search(refining("search.trials=24", "search.ladder=12", noise=SLIGHTLY), host=host)
    searched = pareto_front(result.outcome.trials, result.front.objectives)
    assert len(searched) > 4
    assert len(lines(tmp_path / "log")) == 2
    before = lines(tmp_path / "log")
    again = {point.trial.number for point in result.front.points if point.searched}
    pruned = [t for t in searched if t.origin != "dense"]
    rows = np.array([losses(t.metrics, result.front.objectives) for t in pruned])
    rows = (rows - rows.min(0)) / np.ptp(rows, axis=0)
    (one, other) = (next(n for n, t in enumerate(pruned) if t.number == number) for number in sorted(again))
    far = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    assert far[one, other] in (far[one].max(), far[other].max())
    assert resume(tmp_path / "study", host=host).outcome == result.outcome
    assert lines(tmp_path / "log") == before


@pytest.mark.slow
@pytest.mark.usefixtures("in_a_hurry")
def test_all_are_made_again_where_all_is_asked_for(refining, host, tmp_path):
    result = search(
        refining("search.trials=24", "search.ladder=12", "search.final.samples=all", noise=SLIGHTLY), host=host
    )
    searched = pareto_front(result.outcome.trials, result.front.objectives)
    assert len(lines(tmp_path / "log")) == sum(t.origin != "dense" for t in searched) > 2


@pytest.mark.parametrize("number", range(1, 6))
def test_spaced_points_leave_no_point_farther_from_them_than_they_are_from_each_other(number):
    points = np.random.default_rng(0).normal(size=(30, 3)) * [1, 100, 0.01]
    order = spaced(points.tolist(), first=7)
    assert sorted(order) == list(range(30))
    assert order[0] == 7
    scaled = points / np.ptp(points, axis=0)
    far = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
    chosen, rest = order[: number + 1], order[number + 1 :]
    apart = min(far[i, j] for i in chosen for j in chosen if i != j)
    assert max(far[i, chosen].min() for i in rest) <= apart + 1e-12
    assert spaced([]) == []
    assert spaced([[1.0, 2.0], [1.0, 2.0]]) == [0, 1]


def test_what_comes_out_worse_stays_as_it_was(refining, host, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "autoprune"):
        result = search(refining("search.trials=4", noise=WORSE), host=host)
    pruned = [p.trial.number for p in result.front.points if p.trial.number]
    assert len(lines(tmp_path / "log")) == len(pruned) > 0
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == (
        f"{len(pruned)} of the front's {len(result.front.points)} members came out worse by the final version of their"
        f" strategy and stay as the search made them: trials {', '.join(map(str, sorted(pruned)))}"
    )
    assert not any(p.searched for p in result.front.points)
    for number in pruned:
        found = value_of(result.models[number], "validation")
        assert found == pytest.approx(result.outcome.trials[number].metrics["distance"].value, rel=1e-4)
    resume(tmp_path / "study", host=host)
    assert len(lines(tmp_path / "log")) == len(pruned), "it is not tried again"


def test_what_breaks_a_constraint_now_stays_as_it_was(refining, host):
    free = search(refining("search.trials=3", "output=free"), host=host)
    (point, *_) = [p for p in free.front.points if p.searched]
    was, now = point.searched["distance"].value, point.trial.metrics["distance"].value
    bound = f"constraints={{distance: '>= {(was + now) / 2}'}}"
    result = search(refining("search.trials=3", bound), host=host)
    (same,) = [p for p in result.front.points if p.trial.number == point.trial.number]
    assert (same.searched, same.trial.metrics["distance"].value) == ({}, was)


def test_what_cannot_be_made_again_stays_as_it_was_and_is_told(refining, host, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "autoprune"):
        result = search(refining("search.trials=2", noise=f"{BETTER}, final_fault: none"), host=host)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == (
        "trial 1 could not be made again and stays as it is: strategy toy-strategy: returned a NoneType, not what"
        " ctx.start or ctx.cut gave it"
    )
    assert not any(p.searched for p in result.front.points)
    assert all(p.test for p in result.front.points)
    assert value_of(result.models[1], "validation") == pytest.approx(
        result.outcome.trials[1].metrics["distance"].value, rel=1e-4
    )


def test_options_left_to_the_search_are_those_of_the_trial(refining, host):
    """The final version is made of the strategy with what was chosen."""
    choice = ("use: toy-strategy", "use: toy-strategy, noise: {choose: [0.2, 0.4]}, final_noise: 0.0")
    result = search(refining("search.trials=6", swap=choice), host=host)
    again = [p for p in result.front.points if p.searched]
    assert again
    for point in again:
        assert point.trial.knobs == result.outcome.trials[point.trial.number].knobs
        assert point.trial.metrics["distance"].value < point.searched["distance"].value


@pytest.mark.slow
@pytest.mark.usefixtures("quick_workers")
def test_two_workers_make_them_again(refining, host, tmp_path):
    alone = search(refining("search.trials=3", "search.ladder=2", "output=alone"), host=host)
    count = len(lines(tmp_path / "log"))
    both = search(refining("search.trials=3", "search.ladder=2", "search.workers=2"), host=host)
    assert essence(both) == essence(alone)
    assert len(lines(tmp_path / "log")) == 2 * count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "step", "before", "twice"),
    [
        ("autoprune.study.storage:Study", "settle", True, True),  # saved, not recorded
        ("autoprune.study.storage:Study", "settle", False, False),  # recorded, not in its place
        ("autoprune.study.ending", "put_in_place", False, False),
        ("autoprune.study.storage:Study", "record_part", True, False),
        ("autoprune.study.storage:Study", "record_part", False, False),
        ("autoprune.study.storage:Study", "record_test", False, False),
    ],
)
def test_killed_at_any_step_nothing_is_lost_and_nothing_done_twice(
    refining, host, tmp_path, owner, step, before, twice
):
    whole = search(refining("output=whole"), host=host)
    count = len(lines(tmp_path / "log"))
    call = 1 if step == "record_part" else 2
    # The first that is settled may be the dense model, of which there is nothing to make again.
    dense = 0 in {t.number for t in pareto_front(whole.outcome.trials, whole.front.objectives)}
    refining()
    process = started(run_killed, tmp_path / "spec.yaml", owner, step, call + (dense and step == "settle"), before)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    result = resume(tmp_path / "study", host=host)
    assert essence(result) == essence(whole)
    assert len(lines(tmp_path / "log")) == 2 * count + twice
    assert {entry.name for entry in (tmp_path / "study" / "models").iterdir()} == {str(n) for n in result.models}
    for point in result.front.points:
        assert value_of(point.trial.model, "validation") == pytest.approx(
            point.trial.metrics["distance"].value, rel=1e-4, abs=1e-6
        )


# On how many samples


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "samples"), [("auto", 16), ("all", 16), (12, 12), (99, 16)])
def test_the_front_is_measured_on_as_many_samples_as_asked(spec, host, asked, samples):
    outcome = search(spec("search.trials=3", f"search.final.samples={asked}"), host=host).outcome
    assert {p.test["distance"].samples for p in outcome.front.points} == {samples}
    assert outcome.dense_test["distance"].samples == samples
    assert outcome.test_part == (None if samples == 16 else (12, 16))
    assert not outcome.dense_whole_test
    assert not any(p.whole_test for p in outcome.front.points)


@pytest.mark.usefixtures("a_part")
def test_where_time_is_short_all_are_measured_on_the_same_part_and_the_best_on_all(spec, host, tmp_path):
    log = tmp_path / "log"
    result = search(spec("search.trials=5", swap=("use: toy-distance", f"use: toy-distance, log: {log}")), host=host)
    outcome = result.outcome
    assert outcome.test_part == (10, 16)
    assert {p.test["distance"].samples for p in outcome.front.points} == {10}
    assert (outcome.dense_test["distance"].samples, outcome.dense_whole_test["distance"].samples) == (10, 16)
    (best,) = [p for p in outcome.front.points if p.whole_test and p.trial.number]
    assert best.whole_test["distance"].samples == 16
    assert best.whole_test["distance"].value == pytest.approx(value_of(best.trial.model, "test"), rel=1e-4)
    assert best.whole_test["distance"].value != best.test["distance"].value
    models = len(outcome.front.points) + (0 not in result.models)
    assert sum(line.startswith("test") for line in lines(log)) == models + 2
    before = lines(log)
    assert resume(tmp_path / "study", host=host).outcome == outcome
    assert lines(log) == before


@pytest.mark.slow
def test_how_many_is_settled_once(spec, host, tmp_path, monkeypatch, a_part):
    search(spec("search.trials=3"), host=host)
    monkeypatch.setattr(ending, "_seconds", lambda results: 1e9)
    outcome = resume(tmp_path / "study", trials=9, host=host).outcome
    assert outcome.test_part == (10, 16)
    assert {p.test["distance"].samples for p in outcome.front.points} == {10}


def test_a_part_is_the_same_for_all_and_not_the_first_samples(spec, host):
    from autoprune.study.measuring import part_of

    split = toy_plugin.ToyData().load(None).test
    import torch

    everything = torch.arange(16)
    inputs, targets = split.fetch(everything)
    chosen, right = part_of(split, 10).fetch(torch.arange(10))
    rows = [(inputs.first == row).all(1).nonzero().item() for row in chosen.first]
    assert len(set(rows)) == 10
    assert rows != list(range(10))
    assert torch.equal(right, targets[rows])
    assert torch.equal(part_of(split, 10).read_targets(torch.arange(10)), right)
    more, _ = part_of(split, 12).fetch(torch.arange(10))
    assert torch.equal(more.first, chosen.first)
    assert len(part_of(split, 99)) == 16


@pytest.mark.parametrize(
    ("spare", "growing", "fixed", "samples"),
    [
        (100.0, 4.0, 0.0, 10_000),  # 21 × 4 s
        (84.0, 4.0, 0.0, 10_000),
        (83.9, 4.0, 0.0, 5_000),  # (83.9 - 8) / 84 of 10,000: 9,035
        (50.0, 4.0, 0.0, 5_000),  # exactly
        (49.9, 4.0, 0.0, 2_000),
        (10.0, 4.0, 0.0, 1_000),
        (-10.0, 4.0, 0.0, 1_000),
        (50.0, 3.0, 1.0, 2_000),  # (50 - 8 - 21) / 63: 3,333
        (10.0, 0.0, 4.0, 1_000),  # fewer samples save nothing
    ],
)
def test_as_many_samples_as_there_is_time_for(spare, growing, fixed, samples):
    assert affordable(10_000, members=20, spare_s=spare, growing_s=growing, fixed_s=fixed) == samples


def test_never_more_samples_than_there_are():
    assert affordable(872, members=20, spare_s=0.0, growing_s=1.0, fixed_s=0.0) == 872


def test_numbers_are_rounded_down_to_one_two_five():
    numbers = [-3, 0, 0.9, 1, 1.9, 2, 4.9, 5, 9.9, 10, 49, 50, 999, 1000]
    assert [round_down(n) for n in numbers] == [0, 0, 0, 1, 1, 2, 2, 5, 5, 10, 20, 50, 500, 1000]


# What is told


def test_what_is_done_is_told(refining, host):
    told = []

    class Watch:
        @hookimpl
        def autoprune_member_finished(self, study, doing, done, total):
            told.append((study.name, doing, done, total))

    result = search(refining("search.trials=3"), host=host, observers=[Watch()])
    again = [n for n, *_ in lines(result.study.folder.parent / "log")]
    assert [each for each in told if each[1] == "refining the front"] == [
        ("study", "refining the front", done, len(again)) for done in range(len(again) + 1)
    ]
    assert told[len(again) + 1][1:] == ("measuring the dense model on the test split", 0, 1)
    assert told[-1][1] == "measuring the front on the test split"
    assert told[-1][2] == told[-1][3]
