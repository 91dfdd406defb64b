from __future__ import annotations

import math

import pytest
from scipy.stats import spearmanr

from autoprune.plugin import Measured
from autoprune.report.importance import Importance, group_importance

NAMES = ("accuracy", "latency_ms")


def test_importance_is_scipys_rank_correlation(synthetic):
    trials = synthetic.trials(60)
    found = group_importance(trials, synthetic.GROUPS, NAMES)
    complete = [trial for trial in trials if trial.state == "complete"]
    assert list(found) == list(synthetic.GROUPS)
    for group, row in found.items():
        for name in NAMES:
            ratios = [trial.achieved[group] for trial in complete]  # in sixteenths: many are equal
            expected = spearmanr(ratios, [trial.metrics[name].value for trial in complete])
            assert row[name].correlation == pytest.approx(expected.statistic)
            assert row[name].trials == len(complete) == 58
    assert found["fc1"]["accuracy"].correlation < 0, "cutting does harm"


def test_chance_is_wider_where_there_are_few_trials():
    for trials in (12, 60, 500):
        edge = 1.96 / math.sqrt(trials - 1)
        assert Importance(edge + 0.01, trials).told_from_chance
        assert not Importance(-edge + 0.01, trials).told_from_chance
        assert Importance(-edge - 0.01, trials).told_from_chance


def test_there_is_none_of_few_trials_or_of_what_never_changes(synthetic):
    trials = synthetic.trials(40)
    still = [trial.model_copy(update={"achieved": {**trial.achieved, "fc1": 0.25}}) for trial in trials]
    assert group_importance(still, ("fc1", "unknown"), NAMES[:1]) == {
        "fc1": {"accuracy": None},
        "unknown": {"accuracy": None},
    }
    assert group_importance(still, ("conv1",), NAMES[:1])["conv1"]["accuracy"] is not None
    assert group_importance(still, ("conv1",), ("unknown",)) == {"conv1": {"unknown": None}}
    assert group_importance(trials[:8], ("conv1",), NAMES) == {"conv1": {"accuracy": None, "latency_ms": None}}


def test_a_value_that_is_not_finite_does_not_count(synthetic):
    trials = list(synthetic.trials(40))
    odd = {"accuracy": Measured(value=math.inf)}
    with_odd = [*trials, trials[5].model_copy(update={"number": 40, "metrics": odd})]
    assert group_importance(with_odd, ("conv1",), NAMES[:1]) == group_importance(trials, ("conv1",), NAMES[:1])
