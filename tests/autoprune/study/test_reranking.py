"""Fronts of stored trials under other objectives, against pairs of trials compared one by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprune import SearchResult, StudyError
from autoprune.plugin import Measured, TrialResult
from autoprune.study.reranking import left_out
from tests.autoprune.report import synthetic

OTHERS = {"robust_accuracy": "maximize", "macs": "minimize"}


def made(folder: Path, *, trials: tuple[TrialResult, ...] | None = None, again: bool = False) -> SearchResult:
    study = synthetic.study(folder, objectives=2)
    outcome = synthetic.outcome(study, trials or synthetic.trials(60))
    return SearchResult(study, synthetic.made_again(outcome) if again else outcome)


def beaten(one: TrialResult, other: TrialResult, objectives: dict[str, str]) -> bool:
    """Whether the other is as good in everything, and better in something."""
    pairs = [(one.metrics[name].value, other.metrics[name].value, way) for name, way in objectives.items()]
    better = [theirs - mine if way == "maximize" else mine - theirs for mine, theirs, way in pairs]
    return min(better) >= 0 and max(better) > 0


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    "objectives", [OTHERS, {"macs": "minimize"}, {"accuracy": "maximize", "robust_accuracy": "maximize", **OTHERS}]
)
def test_it_is_what_no_other_trial_beats(objectives: dict[str, str], again: bool, tmp_path: Path) -> None:
    result = made(tmp_path, again=again)
    ranked = result.ranked_by(objectives)
    now = {point.trial.number: point.trial for point in result.front.points}  # as their saved models are
    trials = [now.get(trial.number, trial) for trial in result.outcome.trials if trial.state == "complete"]
    expected = {one.number for one in trials if not any(beaten(one, other, objectives) for other in trials)}
    assert {point.trial.number for point in ranked.front.points} == expected
    assert dict(ranked.front.objectives) == ranked.study.objectives == objectives
    assert expected != set(now), "another front than the study's own"
    assert ranked.outcome.trials == result.outcome.trials


def test_what_is_known_of_old_members_stays(tmp_path: Path) -> None:
    result = made(tmp_path, again=True)
    old = {point.trial.number: point for point in result.front.points}
    ranked = result.ranked_by(OTHERS)
    shared = [point for point in ranked.front.points if point.trial.number in old]
    assert shared
    for point in shared:
        assert point.trial == old[point.trial.number].trial
        assert point.test == old[point.trial.number].test
        assert point.searched == old[point.trial.number].searched
    others = [point for point in ranked.front.points if point.trial.number not in old]
    assert others
    assert not any(point.test or point.trial.model for point in others)


def test_its_own_objectives_give_its_own_front(tmp_path: Path) -> None:
    result = made(tmp_path)
    ranked = result.ranked_by(result.study.objectives)
    assert {p.trial.number for p in ranked.front.points} == {p.trial.number for p in result.front.points}
    assert ranked.outcome.together == result.outcome.together


def test_its_hypervolume_is_below_the_dense_model(tmp_path: Path) -> None:
    ranked = made(tmp_path).ranked_by({"macs": "minimize"})
    (least,) = ranked.front.points
    dense = ranked.outcome.trials[0].metrics["macs"].value
    assert ranked.front.reference == {"macs": pytest.approx(1.1 * dense)}
    assert ranked.front.hypervolume == pytest.approx(1.1 * dense - least.trial.metrics["macs"].value)


def test_trials_that_lack_a_metric_are_left_out_and_counted(tmp_path: Path) -> None:
    trials = list(synthetic.trials(30))
    best = min((trial for trial in trials if trial.state == "complete"), key=lambda t: t.metrics["macs"].value)
    trials[best.number] = best.model_copy(
        update={"metrics": {name: value for name, value in best.metrics.items() if name != "robust_accuracy"}}
    )
    trials[20] = trials[20].model_copy(update={"violations": {"accuracy": 0.1}})
    result = made(tmp_path, trials=tuple(trials))
    ranked = result.ranked_by(OTHERS)
    numbers = {point.trial.number for point in ranked.front.points}
    assert not numbers & {8, 11, 20, best.number}
    assert left_out(ranked.outcome, ranked.front.objectives) == (
        "left out of 30 trials: 1 failed; 1 rejected, as the study's own objectives had it; 1 without robust_accuracy;"
        " 1 that break a constraint"
    )
    assert left_out(ranked.outcome.model_copy(update={"trials": (trials[0],)}), {"macs": "minimize"}) == ""
    assert best.number in {point.trial.number for point in result.ranked_by({"macs": "minimize"}).front.points}


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ({"mac": "minimize"}, "no trial has a metric 'mac'; did you mean 'macs'?"),
        ({"macs": "minimise"}, "macs: 'minimise' is no direction; write maximize or minimize"),
        ({"macs": ""}, "macs: '' is no direction"),
        ({"leak": "minimize"}, "leak was measured of the front alone, on the test split"),
        ({}, "name one objective at least"),
    ],
)
def test_what_cannot_be_ranked_by_is_told(objectives: dict[str, str], message: str, tmp_path: Path) -> None:
    result = made(tmp_path)
    points = tuple(
        point.model_copy(update={"test": {**point.test, "leak": Measured(value=0.5)}}) for point in result.front.points
    )
    front = result.front.model_copy(update={"points": points})
    with pytest.raises(StudyError, match=message) as error:
        SearchResult(result.study, result.outcome.model_copy(update={"front": front})).ranked_by(objectives)
    assert "\n" not in str(error.value)
