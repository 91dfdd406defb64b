"""What a sampler remembers of a study, against looking at all of it anew."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from autoprune.plugin import Choice, Cost, Measured, Metric, Range, SamplerContext, SearchedGroup, TrialResult
from autoprune_samplers._history import History
from autoprune_samplers._process import MOST_FITTED

OBJECTIVES = {"accuracy": "maximize", "macs": "minimize"}
NOW = datetime.now(UTC)


@pytest.fixture
def history():
    group = SearchedGroup(name="a", units=50, step=1, fewest=0, most=45, parameter="ratio.a", low=0.0, high=0.9)
    return History(
        SamplerContext(
            seed=0,
            objectives=OBJECTIVES,
            constraints={},
            metrics={
                "accuracy": Metric("accuracy", "", "maximize", Cost.FORWARD),
                "macs": Metric("macs", "", "minimize", Cost.EXACT),
            },
            groups=(group,),
            knobs=(Choice("strategy", ("s", "t")), Range("epochs", 1, 9, whole=True, usual=3)),
            priced=frozenset(),
            meetings=(),
            costs=lambda *_: {},
            sensitivity=dict,
            history=list,
            pending=dict,
        )
    )


def trial(number: int, rng) -> TrialResult:
    """The dense model, then whatever may come: one in ten fails, is given up, or is rejected by arithmetic."""
    state = "complete" if number == 0 else rng.choice(["complete"] * 7 + ["failed", "rejected", "given up"])
    # Few values, so that some are equal.
    metrics = {"accuracy": Measured(value=rng.integers(30) / 30), "macs": Measured(value=rng.integers(30) / 30)}
    known = {"complete": ("accuracy", "macs"), "failed": (), "rejected": ("macs",), "given up": ("accuracy", "macs")}
    strategy, epochs = str(rng.choice(["s", "t"])), float(rng.integers(1, 10))
    return TrialResult(
        number=number,
        state="rejected" if state == "given up" else str(state),
        origin="sampler" if number else "dense",
        ratios={"a": 0.5},
        achieved={"a": rng.integers(46) / 50},
        scorers={},
        strategy=strategy,
        knobs={"strategy": strategy, "epochs": epochs} if number else {},
        metrics={name: metrics[name] for name in known[state]},
        violations={"macs": float(rng.random() < 0.2) - 0.5} if number else {},
        seed=0,
        started=NOW,
        finished=NOW,
    )


def values(trial):
    return np.array([-trial.metrics["accuracy"].value, trial.metrics["macs"].value])


def dominated(one, others):
    mine = values(one)
    return any((values(o) <= mine).all() and (values(o) < mine).any() for o in others)


def test_it_keeps_the_front_the_latest_and_all_that_was_tried_whenever_trials_end(history):
    rng = np.random.default_rng(0)
    trials = [trial(number, rng) for number in range(3 * MOST_FITTED)]
    finished: list[TrialResult] = []
    waiting = list(trials)
    while waiting:  # several trials run at a time, and end in any order
        finished.append(waiting.pop(int(rng.integers(min(3, len(waiting))))))
        finished.sort(key=lambda t: t.number)
        if rng.random() < 0.7:
            history.learn(finished)
    history.learn(finished)
    complete = [t for t in trials if t.state == "complete" and (t.feasible or t.number == 0)]
    measured = [t for t in trials if t.state == "complete" or "accuracy" in t.metrics]
    wanted = {t.number for t in measured[-MOST_FITTED:]} | {t.number for t in complete if not dominated(t, complete)}
    assert [t.number for t in history.telling()] == sorted(wanted)
    assert len(wanted) < len(measured) / 2
    assert history.dense == trials[0]
    assert history.proposed == len(trials) - 1
    rows = {
        t.number: [
            round(t.achieved["a"] * 50),
            ("s", "t").index(t.knobs.get("strategy", "s")),
            round(t.knobs.get("epochs", 3)) - 1,
        ]
        for t in trials
    }
    assert {number: row.tolist() for number, row in history.rows.items()} == rows
    assert history.tried == {np.array(row, dtype=np.int64).tobytes() for row in rows.values()}


def test_without_the_dense_model_nothing_is_known(history):
    rng = np.random.default_rng(1)
    history.learn([trial(number, rng) for number in range(1, 9)])
    assert history.dense is None
