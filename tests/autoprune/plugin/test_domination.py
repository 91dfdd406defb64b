"""Domination against its definition, on small sets with many ties."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autoprune.plugin import Measured, dominates, losses, nondominated


@given(st.integers(0, 10**6))
def test_what_nothing_dominates_is_found(seed):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 6, size=(int(rng.integers(0, 40)), int(rng.integers(1, 4)))).astype(float)
    better = [[bool((one <= other).all() and (one < other).any()) for one in points] for other in points]
    assert nondominated(points) == [row for row, beaten in enumerate(better) if not any(beaten)]
    assert better == [[dominates(one, other) for one in points] for other in points]


def test_a_maximised_objective_changes_its_sign():
    metrics = {"accuracy": Measured(value=0.9), "macs": Measured(value=5.0), "loss": Measured(value=1.0)}
    assert losses(metrics, {"macs": "minimize", "accuracy": "maximize"}) == (5.0, -0.9)
