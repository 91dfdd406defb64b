"""What recording a trial in MLflow costs, beside MLflow's own fluent calls; and how long a large study takes to open.

    python -m tests.benchmarks.tracking_cost [--trials 1000] [--pages 2000]

Trials of 50 groups and 10 metrics go to two SQLite databases in turns of 50: by the tracker, and by a plain loop of
``start_run(nested=True)``, ``log_params`` and ``log_metrics``. CPU time of the process, per trial. With ``--pages`` a
study of that many trials is recorded, and its view and its report are opened in a headless Chromium, five times each:
wall-clock seconds until the page has settled, less those of an empty page.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from autoprune.plugin import Front, FrontPoint, GroupSummary, Measured, StudyInfo, StudyOutcome, TrialResult
from autoprune.plugin.front import RunningFront
from autoprune.report import report_page
from autoprune.spec import Spec
from autoprune.tracking import _MlflowTracker
from autoprune.tracking._store import quietly
from tests.mlflow_server import Server

_GROUPS = tuple(f"layer{place}" for place in range(50))
_OBJECTIVES = {"accuracy": "maximize", "latency_ms": "minimize"}
_UNITS = dict.fromkeys(("accuracy", "latency_ms", *(f"metric{place}" for place in range(8))), "")
_TURN = 50
_OPENED = 5
_CHROMIUM = (
    "chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --window-size=1600,1200 --virtual-time-budget=5000 --dump-dom"
).split()


def main() -> None:
    """Print what it costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--pages", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.trials:
            _recording(folder, asked.trials)
        if asked.pages:
            _opening(folder, asked.pages)


def _recording(folder: Path, trials: int) -> None:
    study = _study(folder / "ours", f"sqlite:///{folder / 'ours.db'}", trials)
    tracker = _MlflowTracker()
    tracker.autoprune_study_started(study)

    def ours(results: list[TrialResult]) -> None:
        for result in results:
            tracker.autoprune_trial_finished(study, result)

    costs: dict[str, list[float]] = {"autoprune": [], "plain loop": []}
    with quietly():
        import mlflow

        mlflow.set_tracking_uri(f"sqlite:///{folder / 'plain.db'}")
        with mlflow.start_run(run_name="study"):
            for start in range(0, trials, _TURN):
                results = [_trial(number) for number in range(start, min(start + _TURN, trials))]
                for name, record in (("autoprune", ours), ("plain loop", _plainly)):
                    costs[name].append(_cpu(record, results) / len(results))
    for name, turns in costs.items():
        tenths = statistics.quantiles(turns, n=10) if len(turns) > 1 else [turns[0]] * 9
        print(
            f"{name}: {1000 * statistics.median(turns):.1f} ms of CPU a trial, the middle 80 % of {len(turns)} turns"
            f" {1000 * tenths[0]:.1f} to {1000 * tenths[-1]:.1f}, the last turn {1000 * turns[-1]:.1f}"
        )


def _plainly(results: list[TrialResult]) -> None:
    import mlflow

    for result in results:
        with mlflow.start_run(run_name=f"trial {result.number}", nested=True):
            mlflow.log_params({f"ratio/{name}": ratio for name, ratio in result.ratios.items()})
            mlflow.log_metrics({name: measured.value for name, measured in result.metrics.items()})


def _cpu(record: Callable[[list[TrialResult]], None], results: list[TrialResult]) -> float:
    started = time.process_time()
    record(results)
    return time.process_time() - started


def _opening(folder: Path, trials: int) -> None:
    database = folder / "pages.db"
    study = _study(folder / "pages", f"sqlite:///{database}", trials)
    results = tuple(map(_trial, range(trials)))
    outcome = _outcome(study, results)
    tracker = _MlflowTracker()
    facts = tracker.autoprune_study_started(study.model_copy(update={"finished": results}))
    tracker.autoprune_study_finished(study, outcome)
    report = folder / "report.html"
    report.write_text(report_page(study, outcome), encoding="utf-8")
    assert facts is not None
    server = Server(folder, database)
    server.start()
    try:
        view = server.uri + facts["hint"].partition("http://127.0.0.1:5000")[2]
        print(f"{trials} trials, {len(outcome.front.points)} on the front, report {report.stat().st_size / 1e6:.2f} MB")
        empty = statistics.median(_opened(folder, "about:blank"))
        for name, address in (
            ("view", view),
            ("all trials", view.replace("&", "-all&", 1)),
            ("report", report.as_uri()),
        ):
            times = [seconds - empty for seconds in _opened(folder, address)]
            print(f"{name}: {statistics.median(times):.1f} s ({min(times):.1f} to {max(times):.1f})")
    finally:
        server.kill()


def _opened(folder: Path, address: str) -> Iterator[float]:
    for _ in range(_OPENED):
        started = time.perf_counter()
        profile = folder / "profile"
        subprocess.run(
            [*_CHROMIUM, f"--user-data-dir={profile}", address], check=True, capture_output=True, timeout=120
        )
        yield time.perf_counter() - started
        shutil.rmtree(profile, ignore_errors=True)


def _study(folder: Path, uri: str, trials: int) -> StudyInfo:
    document = {
        "name": "cost", "model": {"use": "digits-cnn"}, "data": {"use": "digits"}, "objectives": _OBJECTIVES,
        "evaluators": [{"use": "accuracy"}, {"use": "latency"}], "search": {"trials": trials}, "tracking": {"uri": uri},
    }  # fmt: skip
    groups = [GroupSummary(name=g, units=64, granularity="channel", layers=(g,), low=0, high=0.8) for g in _GROUPS]
    return StudyInfo.model_validate(
        {
            "name": "cost", "folder": folder, "spec": Spec.model_validate(document), "spec_text": "name: cost\n",
            "trials": trials, "objectives": _OBJECTIVES, "constraints": {}, "units": _UNITS, "costs": ("latency_ms",),
            "groups": groups, "environment": {},
        }
    )  # fmt: skip


def _trial(number: int) -> TrialResult:
    rng = random.Random(number)
    ratios = {group: rng.uniform(0, 0.8) if number else 0.0 for group in _GROUPS}
    mean = sum(ratios.values()) / len(ratios)
    noise = rng.gauss(0, 0.02)
    values = {"accuracy": 0.97 - 0.4 * mean**2 + noise, "latency_ms": 5 * (1 - mean) + 10 * noise * rng.random()}
    values |= {name: rng.random() for name in _UNITS if name not in values}
    started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return TrialResult(
        number=number,
        state="complete",
        origin="sampler" if number else "dense",
        ratios=ratios,
        achieved={group: round(64 * ratio) / 64 for group, ratio in ratios.items()},
        scorers=dict.fromkeys(_GROUPS, "l1"),
        strategy="one-shot",
        metrics={name: Measured(value=v, low=v - 0.01, high=v + 0.01, samples=1000) for name, v in values.items()},
        durations_s={"cut": 0.1, "accuracy": 0.5},
        seed=number,
        started=started,
        finished=started + timedelta(seconds=0.9),
    )


def _outcome(study: StudyInfo, results: tuple[TrialResult, ...]) -> StudyOutcome:
    members = RunningFront(study.objectives, results).members
    points = tuple(FrontPoint(trial=trial, test=trial.metrics) for trial in members)
    reference = {"accuracy": 0.0, "latency_ms": 5.5}
    front = Front(points=points, objectives=study.objectives, hypervolume=1.0, reference=reference)
    return StudyOutcome(trials=results, front=front, dense_test=results[0].metrics)


if __name__ == "__main__":
    main()
