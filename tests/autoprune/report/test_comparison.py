"""Studies side by side: hypervolumes by Optuna's own computation, at one reference point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume

from autoprune.errors import StudyError
from autoprune.plugin import Front, FrontPoint, Measured, StudyOutcome
from autoprune.report import comparison, comparison_summary


@pytest.fixture
def ended(synthetic, tmp_path: Path):
    """A study, and an outcome whose front has these points of (accuracy, latency in ms)."""

    def end(name: str, points, *, slowest: float, objectives=None):
        study = synthetic.study(tmp_path).model_copy(update={"name": name})
        trials = [
            synthetic.trial(1 + place).model_copy(
                update={"metrics": {"accuracy": Measured(value=accuracy), "latency_ms": Measured(value=ms)}}
            )
            for place, (accuracy, ms) in enumerate(points)
        ]
        front = Front(
            points=tuple(FrontPoint(trial=trial) for trial in trials),
            objectives=objectives or {"accuracy": "maximize", "latency_ms": "minimize"},
            hypervolume=0.0,
            reference={"accuracy": 0.0, "latency_ms": slowest},
        )
        return study, StudyOutcome(trials=tuple(trials), front=front)

    return end


ONE, OTHER = [(0.9, 10.0), (0.8, 4.0)], [(0.88, 6.0), (0.5, 2.0), (0.85, 5.5)]


def test_hypervolumes_are_at_the_worst_reference_of_all(ended) -> None:
    rows = comparison([ended("one", ONE, slowest=11.0), ended("other", OTHER, slowest=12.0)])
    corner = np.array([0.0, 12.0])
    for row, points in zip(rows, (ONE, OTHER), strict=True):
        losses = np.array([(-accuracy, ms) for accuracy, ms in points])
        assert row["hypervolume"] == pytest.approx(compute_hypervolume(losses, corner))
    assert [(row["study"], row["trials"], row["front"]) for row in rows] == [("one", 2, 2), ("other", 3, 3)]
    assert [(row["best accuracy"], row["best latency_ms"]) for row in rows] == [(0.9, 4.0), (0.88, 2.0)]


def test_a_front_without_members_has_no_best(ended) -> None:
    titles, cells = comparison_summary([ended("one", ONE, slowest=11.0), ended("none", [], slowest=11.0)])
    assert titles == ["study", "trials", "front", "best accuracy", "best latency (ms)", "hypervolume"]
    assert cells[1] == ["none", "0", "0", "", "", "0"]


def test_other_objectives_are_refused(ended) -> None:
    two = {"accuracy": "maximize", "latency_ms": "minimize"}
    one = {"accuracy": "maximize"}
    with pytest.raises(StudyError, match=r"can't be compared: one has accuracy: .*, latency_ms: .*, other has"):
        comparison([ended("one", ONE, slowest=9.0, objectives=two), ended("other", ONE, slowest=9.0, objectives=one)])
