"""What is said aloud of a study that measures nothing worth having."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from autoprune.plugin import Cost, Measured, Metric
from autoprune.study.doubts import Silence, noise, saturation
from autoprune.study.jobs import Cut, Effect

METRICS = {
    "latency_ratio": Metric("latency_ratio", "fraction of dense", "minimize", Cost.TIMING),
    "params_ratio": Metric("params_ratio", "fraction of dense", "minimize", Cost.EXACT),
    "accuracy": Metric("accuracy", "fraction", "maximize", Cost.FORWARD),
    "robust_accuracy": Metric("robust_accuracy", "fraction", "maximize", Cost.ATTACK),
    "corruption_accuracy": Metric("corruption_accuracy", "fraction", "maximize", Cost.ATTACK),
    "leakage": Metric("leakage", "fraction", "minimize", Cost.ATTACK),
    "distance": Metric("distance", "input units", "maximize", Cost.ATTACK),
}


def dense(**values):
    return SimpleNamespace(metrics={name: Measured(value=value) for name, value in values.items()})


@pytest.mark.parametrize(("value", "said"), [(1.0, False), (1.09, False), (0.91, False), (1.12, True), (0.6, True)])
def test_a_dense_model_that_is_not_as_fast_as_itself_is_told(value, said):
    doubt = noise(dense(latency_ratio=value, params_ratio=1.0, accuracy=0.5), METRICS)
    assert (doubt is not None) == said
    if said:
        assert f"latency_ratio is {value:.2f}" in doubt
        assert "too noisy to trust" in doubt
        assert "params" not in doubt
        assert "accuracy" not in doubt


def test_a_dense_model_that_is_surely_not_as_fast_as_itself_is_told():
    for ends, said in (((0.98, 1.06), False), ((1.01, 1.06), True), ((0.95, 0.99), True)):
        measured = Measured(value=sum(ends) / 2, low=ends[0], high=ends[1])
        doubt = noise(SimpleNamespace(metrics={"latency_ratio": measured}), METRICS)
        assert (doubt is not None) == said
        if said:
            assert f"({ends[0]:.3f} to {ends[1]:.3f})" in doubt


@pytest.mark.parametrize(("value", "said"), [(0.4, False), (0.6, False), (0.8, False), (0.39, True), (0.97, True)])
def test_an_attack_that_tells_no_models_apart_is_told(value, said):
    doubt = saturation(dense(robust_accuracy=value, accuracy=0.97, leakage=0.1, distance=0.02), METRICS)
    assert (doubt is not None) == said
    if said:
        assert f"of the dense model, robust_accuracy is {value:.2f}:" in doubt
        assert "40% to 80%" in doubt
        assert "epsilon: auto" in doubt
    assert saturation(dense(accuracy=0.1, corruption_accuracy=0.95), METRICS) is None


def effects(*told):
    """``a 0.5`` for a cut of group a; ``a !`` for one that could not be measured."""
    made = []
    for text in told:
        group, divergence = text.split()
        cut = Cut(scorer="l1", group=group, units=1)
        made.append(
            Effect(cut=cut, reason="why") if divergence == "!" else Effect(cut=cut, divergence=float(divergence))
        )
    return made


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ([["a 0", "b 0"]], [True]),
        ([["a 0"], ["b 0"], ["a 0", "b 0"]], [False, True, False]),
        ([["a 0"], ["a 0"]], [False, False]),
        ([["a 0", "b 1e-9"], ["a 0", "b 0"]], [False, False]),
        ([["a 1", "b 0"]], [False]),
        ([["a 0", "b !"], ["b 0"]], [False, True]),
        ([["a !", "b !"]], [False]),
    ],
)
def test_cuts_that_change_nothing_at_all_are_told_once_all_groups_are_heard(told, said):
    silence = Silence(["a", "b"])
    assert [silence.learn(effects(*some)) is not None for some in told] == said


def test_nothing_is_said_where_an_earlier_session_heard():
    assert Silence(()).learn(effects("a 0", "b 0")) is None
