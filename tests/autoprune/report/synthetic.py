"""A study made up from a few formulas, so that the tests of reports and trackers need no search."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from autoprune.plugin import (
    Front,
    FrontPoint,
    GroupSummary,
    Measured,
    StudyInfo,
    StudyOutcome,
    TrialResult,
)
from autoprune.spec import Spec

GROUPS = ("conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "layer2.0.conv2", "fc1")
OBJECTIVES = {"accuracy": "maximize", "latency_ms": "minimize", "robust_accuracy": "maximize"}
UNITS = {"accuracy": "fraction", "latency_ms": "ms", "robust_accuracy": "fraction", "macs": "multiply-accumulates"}
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def study(folder: Path, *, objectives: int = 2, trials: int = 24, uri: str | None = None, groups=GROUPS, **spec):
    """A study of that many objectives."""
    wanted = dict(list(OBJECTIVES.items())[:objectives])
    document = {
        "name": "synthetic",
        "model": {"use": "digits-cnn"},
        "data": {"use": "digits"},
        "evaluators": [{"use": "accuracy"}, {"use": "latency"}],
        "objectives": wanted,
        "search": {"trials": trials},
        "tracking": {"uri": uri} if uri else {},
        **spec,
    }
    checked = Spec.model_validate(document)
    return StudyInfo(
        name="synthetic",
        folder=folder,
        spec=checked,
        spec_text="name: synthetic\n# as the user wrote it\n",
        trials=trials,
        objectives=wanted,
        constraints={name: str(bound) for name, bound in checked.constraints.items()},
        units=UNITS,
        costs=tuple(name for name in UNITS if not name.endswith("accuracy")),
        groups=(
            *(GroupSummary(name=g, units=16, granularity="channel", layers=(g,), low=0, high=0.8) for g in groups),
            GroupSummary(name="head", units=10, granularity="neuron", layers=("head",), low=0, high=0),
        ),
        environment={"python": "3.11.9", "torch": "2.13.0", "device": "cpu", "seed": "0"},
    )


def trial(number: int, *, groups=GROUPS, state: str = "complete", seed: int = 0, bounds=None) -> TrialResult:
    """The dense model, then a uniform ladder of five, then random ratios."""
    rng = random.Random(f"{seed}-{number}")
    origin = "dense" if number == 0 else "ladder" if number <= 5 else "sampler"
    fixed = {"dense": 0.0, "ladder": 0.15 * number}
    ratios = {group: fixed[origin] if origin in fixed else rng.uniform(0, 0.8) for group in groups}
    achieved = {g: round(r * 16) / 16 for g, r in ratios.items()}
    harm = sum(r**2 * (1 + 0.5 * place) for place, r in enumerate(achieved.values())) / len(groups)
    mean = sum(achieved.values()) / len(groups)
    accuracy = max(0.1, 0.97 - 0.35 * harm + (rng.gauss(0, 0.006) if number else 0))
    latency = 5.2 * (1 - 0.75 * mean) + (rng.gauss(0, 0.05) if number else 0)
    metrics = {
        "accuracy": _interval(accuracy, 0.012, 1500),
        "latency_ms": _interval(latency, 0.08, 50),
        "robust_accuracy": _interval(max(0.05, 0.62 - 0.4 * harm + rng.gauss(0, 0.02)), 0.05, 256),
        "macs": Measured(value=round(40_900_000 * (1 - mean) ** 2)),
    }
    reason = {"failed": "CUDA out of memory | tried 2 GiB\nTraceback …", "rejected": "macs 4.1e+07 breaks <= 3e7"}
    if state != "complete":
        metrics = {"macs": metrics["macs"]} if state == "rejected" else {}
    started = START + timedelta(seconds=2 * number)
    return TrialResult(
        number=number,
        state=state,
        origin=origin,
        ratios=ratios,
        achieved=achieved,
        scorers={g: "l1" for g, ratio in achieved.items() if ratio},
        strategy="one-shot",
        metrics=metrics,
        violations={k: v - metrics[k].value for k, v in (bounds or {}).items() if k in metrics},
        durations_s={"cut": 0.01, "accuracy": 0.4},
        reason=reason.get(state),
        seed=1000 + number,
        started=started,
        finished=started + timedelta(seconds=1.5),
    )


def trials(count: int = 24, **options) -> tuple[TrialResult, ...]:
    """That many trials; number 8 fails and number 11 is rejected."""
    states = {8: "failed", 11: "rejected"}
    return tuple(trial(n, state=states.get(n, "complete"), **options) for n in range(count))


def outcome(study_: StudyInfo, results: tuple[TrialResult, ...], *, tested: bool = True) -> StudyOutcome:
    """The study ended with these trials."""
    names = study_.objectives
    feasible = [t for t in results if t.feasible]
    front = [t for t in feasible if not any(_dominates(o, t, names) for o in feasible)]
    front.sort(key=lambda t: -t.metrics["accuracy"].value)

    def test(t):
        return {k: m.model_copy(update={"value": m.value * 0.98}) for k, m in t.metrics.items()} if tested else {}

    return StudyOutcome(
        trials=results,
        front=Front(
            points=tuple(FrontPoint(trial=t, test=test(t)) for t in front),
            objectives=names,
            hypervolume=1.234 if front else 0.0,
            reference={n: 0.0 if d == "maximize" else 5.7 for n, d in names.items()},
        ),
        dense_test=test(results[0]),
    )


def made_again(outcome_: StudyOutcome) -> StudyOutcome:
    """The same, after its pruned members gained a point of accuracy, all were measured on 1,000 of 10,000 test samples
    and the best compromise and the dense model on all of them."""

    def point(p: FrontPoint) -> FrontPoint:
        if p.trial.origin == "dense":
            return p.model_copy(update={"whole_test": p.test})
        accuracy = p.trial.metrics["accuracy"]
        better = accuracy.model_copy(update={"value": accuracy.value + 0.01})
        now = p.trial.model_copy(update={"metrics": p.trial.metrics | {"accuracy": better}})
        return FrontPoint(trial=now, searched=p.trial.metrics, test=p.test)

    points = tuple(map(point, outcome_.front.points))
    front = outcome_.front.model_copy(update={"points": points})
    changes = {"front": front, "dense_whole_test": outcome_.dense_test, "test_part": (1000, 10_000)}
    return outcome_.model_copy(update=changes)


def whole(outcome_: StudyOutcome, number: int) -> StudyOutcome:
    """The same with one member that was measured on all of the test split, as much worse as is plain to see."""
    points = [
        p.model_copy(update={"whole_test": {k: m.model_copy(update={"value": m.value / 2}) for k, m in p.test.items()}})
        if p.trial.number == number
        else p
        for p in outcome_.front.points
    ]
    return outcome_.model_copy(update={"front": outcome_.front.model_copy(update={"points": tuple(points)})})


def _interval(value: float, half: float, samples: int) -> Measured:
    return Measured(value=value, low=value - half, high=value + half, samples=samples)


def _dominates(a: TrialResult, b: TrialResult, names) -> bool:
    signs = {name: 1 if direction == "maximize" else -1 for name, direction in names.items()}
    better = [sign * (a.metrics[name].value - b.metrics[name].value) for name, sign in signs.items()]
    return min(better) >= 0 and max(better) > 0
