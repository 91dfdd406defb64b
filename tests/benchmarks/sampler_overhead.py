"""What sampler and storage take per trial, as a study grows: ``python -m tests.benchmarks.sampler_overhead``.

    --samplers sensitivity nsga2 tpe random    --groups 10 50    --trials 100 1000    --tracking

Trials are made up, so that nothing but the study itself takes time: a chain of groups, three objectives, a journal file
in a temporary folder. A line per sampler and number of groups: milliseconds from asking for a trial to having told its
result, median and quartiles of the last fifty trials before each mark; then the median of the processor's time, which a
busy machine and its disk disturb less. With tracking each trial is recorded in MLflow, too, in a new SQLite database,
and there are lines for that and for everything together.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoprune.host.plugins import PluginHost
from autoprune.plugin import (
    Cost,
    GroupSummary,
    Measured,
    Metric,
    Range,
    Sampler,
    SearchedGroup,
    StudyInfo,
    TrialResult,
)
from autoprune.spec import Spec, Tracking
from autoprune.study.guide import Guide
from autoprune.study.jobs import Effect, Probed
from autoprune.study.proposal import Proposal
from autoprune.study.storage import Study
from autoprune.tracking import autoprune_study_started, autoprune_trial_finished

_UNITS, _MOST, _WINDOW = 64, 57, 50
_OBJECTIVES = {"accuracy": "maximize", "macs_ratio": "minimize", "robust_accuracy": "maximize"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samplers", nargs="+", default=["sensitivity", "nsga2", "random"])
    parser.add_argument("--groups", nargs="+", type=int, default=[10, 50])
    parser.add_argument("--trials", nargs="+", type=int, default=[100, 1000], help="marks to measure at")
    parser.add_argument("--tracking", action="store_true", help="record each trial with MLflow, too")
    options = parser.parse_args(arguments)
    known = PluginHost().components(Sampler)
    print(
        "| sampler | groups | part | "
        + " | ".join(f"at {mark} trials, ms; processor" for mark in options.trials)
        + " |"
    )
    print("|---|---|---|" + "---|" * len(options.trials))
    for name in options.samplers:
        for groups in options.groups:
            took = _run(known[name](), groups, max(options.trials), tracking=options.tracking)
            for part, each in took.items():
                cells = [_cell(each[max(0, mark - _WINDOW) : mark]) for mark in options.trials]
                print(f"| {name} | {groups} | {part} | " + " | ".join(cells) + " |", flush=True)


def _run(sampler: Sampler, groups: int, trials: int, *, tracking: bool) -> dict[str, NDArray[np.float64]]:
    """Milliseconds per trial of each part, on the clock and on the processor."""
    rng = np.random.default_rng(0)
    tolerance = rng.uniform(0.2, 3.0, groups)
    spec = Spec.model_validate({
        "name": "overhead", "model": {"use": "m"}, "data": {"use": "d"}, "evaluators": [{"use": "e"}],
        "objectives": _OBJECTIVES, "search": {"trials": trials},
    })  # fmt: skip
    own, recording = [], []
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal.log"
        info = _info(spec, Path(folder), groups)
        if tracking:
            autoprune_study_started(info)
        study = Study("s", spec=spec, guide=_guide(groups), sampler=sampler, journal=journal, new=True)
        study.enqueue([("dense", {f"ratio.{i}": 0.0 for i in range(groups)})])
        for cut in study.rankings.next(study.rankings.total):
            divergence = float(tolerance[int(cut.group)] * (cut.units / _UNITS) ** 2)
            effect = Effect(cut=cut, divergence=divergence, agreement=1 / (1 + divergence))
            study.record_probe(Probed(effects=(effect,)))
        for _ in range(trials):
            start = _now()
            proposal = study.ask()
            asked = _now()
            result = _measured(proposal, tolerance, rng)
            measured = _now()
            study.tell(result)
            told = _now()
            own.append(asked - start + told - measured)
            if tracking:
                autoprune_trial_finished(info, result)
                recording.append(_now() - told)
        study.close()
    parts = {"sampler, storage": np.array(own)}
    if tracking:
        parts |= {"tracking": np.array(recording), "all": np.array(own) + np.array(recording)}
    return parts


def _now() -> NDArray[np.float64]:
    return 1e3 * np.array([time.perf_counter(), time.process_time()])


def _info(spec: Spec, folder: Path, groups: int) -> StudyInfo:
    return StudyInfo(
        name="overhead",
        folder=folder,
        spec=spec.model_copy(update={"tracking": Tracking(uri=f"sqlite:///{folder / 'mlflow.db'}")}),
        spec_text="",
        trials=spec.search.trials,
        objectives=spec.objectives,
        constraints={},
        units=dict.fromkeys(spec.objectives, ""),
        costs=(),
        groups=tuple(
            GroupSummary(name=str(i), units=_UNITS, granularity="channel", layers=(), low=0.0, high=0.9)
            for i in range(groups)
        ),
        environment={},
    )


def _guide(groups: int) -> Guide:
    def costs(cut_units: np.ndarray, choices: object) -> dict[str, np.ndarray]:
        macs = _macs(1 - cut_units / _UNITS)
        return {"params": macs, "macs": macs, "bytes": macs, "nonzero": macs, "macs_ratio": macs / groups}

    return Guide(
        parameters=tuple(Range(f"ratio.{i}", 0.0, 0.9) for i in range(groups)),
        metrics={n: Metric(n, "", "minimize", Cost.EXACT if "macs" in n else Cost.FORWARD) for n in _OBJECTIVES},
        groups=tuple(
            SearchedGroup(
                name=str(i), units=_UNITS, step=1, fewest=0, most=_MOST, parameter=f"ratio.{i}", low=0.0, high=0.9
            )
            for i in range(groups)
        ),
        scorers=("l1",),
        knobs=(),
        meetings=tuple((i, i + 1) for i in range(groups - 1)),
        costs=costs,
    )


def _macs(kept: np.ndarray) -> np.ndarray:
    total: np.ndarray = kept[:, 0] + (kept[:, 1:] * kept[:, :-1]).sum(axis=1)
    return total


def _measured(proposal: Proposal, tolerance: np.ndarray, rng: np.random.Generator) -> TrialResult:
    ratios = np.array([float(value) for value in proposal.params.values()])
    damage = float((tolerance * ratios**2).sum()) * float(rng.uniform(0.9, 1.1))
    values = {
        "accuracy": 0.9 / (1 + damage),
        "macs_ratio": float(_macs(1 - ratios[None])[0]) / len(ratios),
        "robust_accuracy": 0.6 / (1 + 1.3 * damage),
    }
    now = datetime.now(UTC)
    named = {name.removeprefix("ratio."): float(value) for name, value in proposal.params.items()}
    return TrialResult(
        number=proposal.number,
        state="complete",
        origin=proposal.origin,
        ratios=named,
        achieved=named,
        scorers=dict.fromkeys(named, "l1"),
        strategy="one-shot",
        metrics={name: Measured(value=value) for name, value in values.items()},
        seed=0,
        started=now,
        finished=now,
    )


def _cell(took: NDArray[np.float64]) -> str:
    low, middle, high = np.quantile(took[:, 0], [0.25, 0.5, 0.75])
    return f"{middle:.0f} ({low:.0f}–{high:.0f}); {np.median(took[:, 1]):.0f}"


if __name__ == "__main__":
    main()
