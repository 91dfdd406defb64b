from __future__ import annotations

import itertools
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.plugin import Measured, TrialResult
from autoprune.plugin.volume import hypervolume, volumes

OBJECTIVES = {"accuracy": "maximize", "latency_ms": "minimize", "robust_accuracy": "maximize", "macs": "minimize"}
REFERENCE = {"accuracy": 0.0, "latency_ms": 0.9, "robust_accuracy": 0.1, "macs": 1.0}


def result(number, values, *, state="complete", violations=None):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    metrics = {name: Measured(value=value) for name, value in values.items()}
    return TrialResult(number=number, state=state, origin="sampler", ratios={}, achieved={}, scorers={}, strategy="s",
                       metrics=metrics, violations=violations or {}, seed=0, started=now, finished=now)  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_volume_after_each_trial_is_optunas_of_all_until_then(size):
    from optuna._hypervolume import compute_hypervolume

    names = list(OBJECTIVES)[:size]
    rng = np.random.default_rng(size)
    rows = rng.uniform(size=(60, size)).round(2)  # some are equal in a coordinate
    rows[7] = rows[3]
    signs = np.array([-1.0 if OBJECTIVES[name] == "maximize" else 1.0 for name in names])
    corner = signs * np.array([REFERENCE[name] for name in names])
    found = volumes(
        [result(number, dict(zip(names, row, strict=True))) for number, row in enumerate(rows)][::-1],
        {name: OBJECTIVES[name] for name in names},
        REFERENCE,
    )
    assert list(found) == list(range(60))
    for number, volume in found.items():
        losses = signs * rows[: number + 1]
        inside = losses[(losses <= corner).all(axis=1)]
        expected = compute_hypervolume(inside, corner) if len(inside) else 0.0
        assert volume == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert hypervolume(losses, corner) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_trials_that_failed_or_break_a_constraint_add_nothing():
    good = {"accuracy": 0.5, "latency_ms": 0.4}
    results = [
        result(0, {}, state="failed"),
        result(1, {"accuracy": 0.9}, state="rejected"),
        result(2, good, violations={"macs": 0.1}),
        result(3, good, violations={"macs": -0.1}),
    ]
    objectives = dict(list(OBJECTIVES.items())[:2])
    assert volumes(results, objectives, REFERENCE) == {0: 0, 1: 0, 2: 0, 3: pytest.approx(0.25)}


@settings(deadline=None)
@given(
    st.integers(1, 4).flatmap(
        lambda m: st.lists(st.lists(st.integers(0, 5), min_size=m, max_size=m), min_size=1, max_size=7)
    )
)
def test_hypervolume_counts_the_unit_cells_below_the_reference(rows):
    size = len(rows[0])
    cells = sum(
        any(all(p <= c for p, c in zip(row, cell, strict=True)) for row in rows)
        for cell in itertools.product(range(4), repeat=size)
    )
    assert hypervolume(np.array(rows, dtype=float), np.full(size, 4.0)) == pytest.approx(cells)


def test_hypervolume_of_nothing_is_zero():
    assert hypervolume(np.empty((0, 3)), np.ones(3)) == 0
    assert hypervolume(np.ones((2, 3)), np.ones(3)) == 0
