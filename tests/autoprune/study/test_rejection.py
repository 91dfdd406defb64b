"""A candidate that the front dominates is given up early, and hardly ever one that would have reached it."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from autoprune.plugin import Measured
from autoprune.spec import Bound
from autoprune.study.rejection import GivenUp, Race

OBJECTIVES = {"accuracy": "maximize", "macs": "minimize"}


def proportion(right: int, samples: int) -> Measured:
    """With Wilson's 95 % interval."""
    share, z = right / samples, NormalDist().inv_cdf(0.975)
    scale = 1 + z * z / samples
    middle = (share + z * z / (2 * samples)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / samples + z * z / (4 * samples * samples))
    return Measured(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half), samples=samples)


def race(rivals, *, error=0.01, constraints=None) -> Race:
    """Rivals are accuracies and MACs."""
    losses = [(-accuracy, macs) for accuracy, macs in rivals]
    return Race(losses, objectives=OBJECTIVES, constraints=constraints or {}, error=error)


def given_up(rivals, *, right, samples=100, macs=0.5, **settings) -> bool:
    try:
        race(rivals, **settings).look({"macs": Measured(value=macs)}, {"accuracy": proportion(right, samples)})
    except GivenUp:
        return True
    return False


def test_only_what_is_dominated_is_given_up():
    assert given_up([(0.8, 0.5)], right=30)
    assert given_up([(0.8, 0.4)], right=30)
    assert not given_up([(0.8, 0.6)], right=30)  # smaller than its rival
    assert not given_up([(0.8, 0.5)], right=75)  # may still come out better
    assert not given_up([(0.8, 0.5)], right=30, error=0.0)
    assert not given_up([], right=30)


def test_what_is_not_measured_yet_may_be_anything():
    unknown = race([(0.9, 0.1)], error=0.05)
    unknown.look({}, {"accuracy": proportion(1, 100)})
    unknown.look({"macs": Measured(value=0.5)}, {})
    without_interval = race([(0.9, 0.1)], error=0.05)
    without_interval.look({"macs": Measured(value=0.5)}, {"accuracy": Measured(value=0.01)})


def test_final_values_count_as_they_are():
    with pytest.raises(GivenUp, match="dominated by the front"):
        race([(0.8, 0.5)]).look({"macs": Measured(value=0.5), "accuracy": proportion(79, 100)}, {})
    race([(0.8, 0.5)]).look({"macs": Measured(value=0.5), "accuracy": proportion(80, 100)}, {})  # equal


def test_a_bound_that_will_not_hold_ends_it_with_the_reason():
    bounds = {"accuracy": Bound(relation=">=", value=0.7)}
    with pytest.raises(GivenUp, match=r"accuracy will not be >= 0\.7: accuracy is 0\.3 on 100 samples") as ended:
        race([], constraints=bounds).look({"macs": Measured(value=0.5)}, {"accuracy": proportion(30, 100)})
    assert ended.value.measured["accuracy"].samples == 100
    race([], constraints=bounds).look({}, {"accuracy": proportion(65, 100)})


def test_what_a_rival_dominates_is_lost_for_good_whatever_may_be_risked():
    def lost(accuracy, macs, rivals=((0.8, 0.5), (0.6, 0.2))):
        values = {"accuracy": Measured(value=accuracy), "macs": Measured(value=macs)}
        return race(rivals, error=0.0).lost(values)

    assert lost(0.7, 0.5)
    assert lost(0.6, 0.3)
    assert not lost(0.7, 0.4)
    assert not lost(0.8, 0.5), "of equal ones the earlier trial stays, which may be this one"
    assert not lost(0.1, 0.9, rivals=())


@pytest.mark.slow
@pytest.mark.parametrize(("error", "looks"), [(0.05, 4), (0.05, 20), (0.2, 10)])
def test_the_error_rate_over_a_thousand_races(error, looks):
    """Candidates that end a hair above their rival, the hardest case, are given up no oftener than is claimed."""
    rng = np.random.default_rng(looks)
    samples, races, wrong = 1000, 1000, 0
    for _ in range(races):
        final = int(rng.integers(300, 900))
        outcomes = rng.permutation(np.arange(samples) < final)
        rivals = [((final - 1) / samples, 0.5)]
        one = race(rivals, error=error)
        try:
            for seen in range(samples // looks, samples + 1, samples // looks):
                one.look({"macs": Measured(value=0.5)}, {"accuracy": proportion(int(outcomes[:seen].sum()), seen)})
        except GivenUp:
            wrong += 1
    # Within three standard errors of what is claimed, in 1,000 races.
    assert wrong / races <= error + 3 * math.sqrt(error * (1 - error) / races)


def test_races_that_are_lost_end_early():
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(200):
        outcomes = rng.random(1000) < 0.5
        one = race([(0.7, 0.5)])
        try:
            for look in range(100, 1001, 100):
                one.look({"macs": Measured(value=0.5)}, {"accuracy": proportion(int(outcomes[:look].sum()), look)})
        except GivenUp as ended:
            seen.append(ended.measured["accuracy"].samples)
    assert len(seen) == 200
    assert np.mean(seen) < 300
