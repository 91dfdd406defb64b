"""Which members of a front bear which alias."""

from __future__ import annotations

import pytest

from autoprune.errors import StudyError
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Measured
from autoprune.tracking._registry import check_name
from autoprune.tracking.aliases import ALIASES, aliases


@pytest.fixture(scope="module")
def host():
    return PluginHost()


EVALUATORS = [{"use": "accuracy"}, {"use": "latency"}, {"use": "pgd", "epsilon": 0.1}, {"use": "macs"}]


def named(synthetic, host, folder, objectives, evaluators, results):
    study = synthetic.study(folder, objectives=3, evaluators=evaluators)
    spec = study.spec.model_copy(update={"objectives": objectives})
    study = study.model_copy(update={"spec": spec, "objectives": objectives})
    return {alias: point.trial for alias, point in aliases(study, synthetic.outcome(study, results), host).items()}


def test_each_is_the_best_of_what_its_objective_measures(synthetic, host, tmp_path):
    results = synthetic.trials(24)
    found = named(synthetic, host, tmp_path, synthetic.OBJECTIVES, EVALUATORS, results)
    assert list(found) == [alias for alias in ALIASES if alias in found]
    study = synthetic.study(tmp_path, objectives=3)
    front = [p.trial for p in synthetic.outcome(study, results).front.points if p.trial.origin != "dense"]
    for alias, name, best in (
        ("fastest", "latency_ms", min),
        ("most-accurate", "accuracy", max),
        ("most-robust", "robust_accuracy", max),
    ):
        assert found[alias].metrics[name].value == best(trial.metrics[name].value for trial in front)
    assert {"safest", "balanced", "smallest"} & found.keys()
    assert all(trial.origin != "dense" for trial in found.values())


@pytest.mark.parametrize(
    ("name", "unit", "evaluator", "alias"),
    [
        ("latency_ratio", "fraction of dense", {"use": "latency"}, "fastest"),
        ("latency_ms_one", "ms", {"use": "latency", "label": "one"}, "fastest"),
        ("throughput", "samples/s", {"use": "throughput"}, "fastest"),
        ("training_ms", "ms", {"use": "training-time"}, None),
        ("energy_mj", "mJ", {"use": "energy"}, None),
        ("macs", "multiply-accumulates", {"use": "macs"}, None),
        ("f1", "fraction", {"use": "f1"}, "most-accurate"),
        ("min_distance", "input units", {"use": "min-distance"}, "most-robust"),
        ("masking_flags", "flags", {"use": "masking", "epsilon": 0.1}, None),
    ],
)
def test_what_a_metric_is_its_evaluator_tells(synthetic, host, tmp_path, name, unit, evaluator, alias):
    direction = "minimize" if unit in ("ms", "mJ", "fraction of dense", "flags") else "maximize"
    sign = 1 if direction == "minimize" else -1
    results = tuple(
        trial.model_copy(
            update={"metrics": trial.metrics | {name: Measured(value=sign * trial.metrics["latency_ms"].value)}}
        )
        for trial in synthetic.trials(7)
    )
    found = named(synthetic, host, tmp_path, {name: direction}, [evaluator], results)
    own = {"fastest", "most-accurate", "most-robust"} & found.keys()
    assert own == ({alias} if alias else set())


def test_a_front_without_a_pruned_model_has_none(synthetic, host, tmp_path):
    assert not named(synthetic, host, tmp_path, synthetic.OBJECTIVES, EVALUATORS, synthetic.trials(1))


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "it's", " digits", "100%"])
def test_names_that_mlflow_does_not_take_are_refused(name):
    with pytest.raises(StudyError, match="is no name for a registered model"):
        check_name(name)


@pytest.mark.parametrize("name", ["digits", "ResNet 20, pruned", "剪枝", "a"])
def test_other_names_are_not(name):
    check_name(name)
