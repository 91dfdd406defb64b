"""The examples on noise, explanations, leakage and theft, with few trials: what they measure is what the words say."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

import autoprune

EXAMPLES = Path(__file__).parents[2] / "search_spaces" / "examples"
EXPECTED = {
    "digits_membership": {"membership_auc": (0.45, 0.65)},
    "digits_extraction": {"extraction_fidelity": (0.7, 1.0)},
    "digits_noise": {"gaussian_accuracy": (0.85, 0.99), "corruption_accuracy": (0.6, 0.95)},
    "digits_explanations": {"explanation_agreement": (1.0, 1.0)},
}
"""By example: what the dense model has on the test split. It is trained on the spot, and on each machine a little
otherwise: it leaks little, is easily copied, suffers from noise and agrees with itself."""


NAMES = [pytest.param(name, marks=pytest.mark.long if name == "digits_extraction" else ()) for name in EXPECTED]


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """Runs an example once, with few trials."""

    @functools.cache
    def of(name):
        study = tmp_path_factory.mktemp(name) / "study"
        quick = ("search.trials=4", "search.workers=1", "search.final.samples=all", "search.early_rejection=0")
        spec = autoprune.load_spec(
            EXAMPLES / f"{name}.yaml", overrides=(*quick, "tracking.enabled=false", "device=cpu", f"output={study}")
        )
        return autoprune.search(spec, progress=False)

    return of


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_member_of_the_front_is_measured_on_all_objectives(search, name):
    result = search(name)
    assert [trial.state for trial in result.outcome.trials] == ["complete"] * 4
    pruned = [point for point in result.front.points if point.trial.origin != "dense"]
    assert pruned
    for point in pruned:
        assert point.test.keys() >= result.front.objectives.keys()
        for metric in EXPECTED[name]:
            found = point.test[metric]
            assert found.low <= found.value <= found.high
            # How much explanations agree is a comparison with the dense model already.
            assert found.difference is not None or metric == "explanation_agreement"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_dense_model_has_what_such_a_model_has(search, name):
    dense = search(name).outcome.dense_test
    for metric, (low, high) in EXPECTED[name].items():
        assert low <= dense[metric].value <= high, metric
    assert dense["accuracy"].value > 0.95
