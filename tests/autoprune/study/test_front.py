"""The front and its hypervolume, against definitions and against Optuna's own."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune.plugin import Measured, TrialResult
from autoprune.plugin.front import RunningFront
from autoprune.study import pareto_front
from autoprune.study.front import Finals, measure_front

OBJECTIVES = {"accuracy": "maximize", "latency": "minimize"}


def trial(number, accuracy, latency, *, state="complete", violation=0.0, origin="sampler"):
    now = datetime.now(UTC)
    metrics = {"accuracy": accuracy, "latency": latency}
    return TrialResult(
        number=number, state=state, origin=origin, ratios={}, achieved={}, scorers={}, strategy="", seed=0,
        metrics={name: Measured(value=value) for name, value in metrics.items() if value is not None},
        violations={"latency": violation}, started=now, finished=now,
    )  # fmt: skip


def numbers(results):
    return [result.number for result in pareto_front(results, OBJECTIVES)]


def test_front_holds_what_nothing_dominates_best_first_objective_first():
    assert numbers([trial(0, 0.5, 1), trial(1, 0.9, 3), trial(2, 0.8, 3), trial(3, 0.7, 2)]) == [1, 3, 0]


def test_front_leaves_out_the_infeasible_the_failed_and_the_rejected():
    best = [trial(0, 1.0, 0, violation=0.1), trial(1, None, 0, state="rejected"), trial(2, None, None, state="failed")]
    assert numbers([*best, trial(3, 0.1, 9)]) == [3]
    assert numbers(best) == []


def test_a_bound_met_exactly_is_kept():
    assert numbers([trial(0, 0.5, 1, violation=0.0)]) == [0]


def test_of_equal_trials_the_earliest_stands_for_all():
    assert numbers([trial(4, 0.5, 1), trial(2, 0.5, 1), trial(7, 0.5, 1)]) == [2]


points = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8)


@given(points)
def test_front_is_the_definition_in_any_order(values):
    results = [trial(i, float(a), float(b)) for i, (a, b) in enumerate(values)]

    def dominated(r):
        return any(
            (o.metrics["accuracy"].value >= r.metrics["accuracy"].value)
            and (o.metrics["latency"].value <= r.metrics["latency"].value)
            and (o.metrics != r.metrics or o.number < r.number)
            for o in results
            if o is not r
        )

    expected = {r.number for r in results if not dominated(r)}
    assert set(numbers(results)) == expected == set(numbers(results[::-1]))


@given(points, st.randoms())
def test_front_grows_trial_by_trial_and_tells_who_falls(values, random):
    results = [trial(i, float(a), float(b), violation=(a + b) % 3 - 1) for i, (a, b) in enumerate(values)]
    random.shuffle(results)
    front, before = RunningFront(OBJECTIVES), set()
    for count, result in enumerate(results, start=1):
        fallen = set(front.add(result))
        now = {member.number for member in front.members}
        assert now == (before | {result.number}) - fallen
        assert fallen <= before | {result.number}
        assert [member.number for member in front.members] == numbers(results[:count])
        assert all((r.number in front) == (r.number in now) for r in results)
        assert len(front) == len(now)
        assert front.losses == tuple((-m.metrics["accuracy"].value, m.metrics["latency"].value) for m in front.members)
        before = now


def test_reference_is_the_dense_models():
    results = [trial(0, 0.9, 10.0, origin="dense"), trial(1, 0.8, 5.0), trial(2, 0.95, 20.0)]
    front = measure_front(results, OBJECTIVES, Finals(tests={1: {"accuracy": Measured(value=0.7)}}), costs={"latency"})
    assert front.reference == {"accuracy": 0.0, "latency": pytest.approx(11.0)}
    # Trial 2 lies beyond the reference in latency, so it adds nothing.
    assert front.hypervolume == pytest.approx(0.9 * 1 + 0.8 * 5)
    assert [(point.trial.number, point.test) for point in front.points] == [
        (2, {}),
        (0, {}),
        (1, {"accuracy": Measured(value=0.7)}),
    ]


def test_what_does_twice_as_badly_as_the_dense_model_still_counts():
    results = [trial(0, 0.9, 10.0, origin="dense"), trial(1, 0.95, 19.0), trial(2, 0.99, 20.0)]
    front = measure_front(results, OBJECTIVES, Finals(), costs=())
    assert front.reference == {"accuracy": 0.0, "latency": pytest.approx(20.0)}
    assert front.hypervolume == pytest.approx(0.9 * 10 + 0.05 * 1)


def test_reference_of_a_negative_dense_value_lies_beyond_it():
    front = measure_front([trial(0, 0.5, -10.0, origin="dense")], OBJECTIVES, Finals(), costs={"latency"})
    assert front.reference["latency"] == pytest.approx(-9.0)
    assert front.hypervolume == pytest.approx(0.5)


def test_without_a_dense_trial_the_worst_one_is_the_reference():
    failed = trial(0, None, None, state="failed", origin="dense")
    others = measure_front([failed, trial(1, 0.5, 4.0), trial(2, 0.4, 2.0)], OBJECTIVES, Finals(), costs={"latency"})
    assert others.reference["latency"] == pytest.approx(4.4)
    empty = measure_front([failed], OBJECTIVES, Finals(), costs={"latency"})
    assert (empty.points, empty.hypervolume, empty.reference) == ((), 0.0, {"accuracy": 0.0, "latency": 0.0})
