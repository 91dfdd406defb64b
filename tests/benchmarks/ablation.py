"""What each piece of the search is worth: ``python -m tests.benchmarks.ablation`` writes docs/measured/ablation.md.

    --tasks digits sst2-transformer resnet20    --seeds 3    --trials 60    --pieces "without moves" …

Every piece is switched off by itself, on the tasks of the comparison with other searches (tests/benchmarks/peers), with
the default scorer. One process, one thread. A table per task: hypervolume after some candidates (median over the seeds,
worst and best), and the seconds of the whole search, probes included.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from .peers.methods_engine import DEFAULT_SCORER, run
from .peers.record import Recorder, course
from .peers.run import environment
from .peers.tasks import ROOT, TASKS, load_setting

_PLAIN: dict[str, Any] = {"use": "sensitivity"}
VARIANTS: dict[str, dict[str, Any]] = {
    "everything": {},
    "scorer L1": {"scorer": {"use": "l1"}},
    "scorer L2 of the weights that read": {"scorer": {"use": "l2", "weights": "fan-out"}},
    "scorer Taylor": {"scorer": {"use": "taylor"}},
    "without allocations": {"sampler": {**_PLAIN, "allocation": False}},
    "without the surrogate (drawn from the same pool)": {"sampler": {**_PLAIN, "surrogate": False}},
    "without moves": {"sampler": {**_PLAIN, "moves": False}},
    "probes of 16 samples": {"sampler": {**_PLAIN, "samples": 16}},
    "probes of 256 samples": {"sampler": {**_PLAIN, "samples": 256}},
    "without early rejection": {"early_rejection": 0.0},
    "in float32": {"precision": "float32"},
    "Optuna's NSGA-II in its place": {"sampler": {"use": "nsga2"}},
    "Optuna's NSGA-II, without early rejection": {"sampler": {"use": "nsga2"}, "early_rejection": 0.0},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["digits", "sst2-transformer", "resnet20"], choices=TASKS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--pieces", nargs="+", default=list(VARIANTS), choices=VARIANTS, help="rows, if not all")
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "autoprune-ablation")
    parser.add_argument("--note", default="", help="a remark for the page's head")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "measured" / "ablation.md")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    marks = [mark for mark in (10, 20, 40, 60, 80, 120) if mark <= options.trials]
    command = f"--tasks {' '.join(options.tasks)} --seeds {options.seeds} --trials {options.trials}"
    if options.pieces != list(VARIANTS):
        command += " --pieces " + " ".join(f'"{title}"' for title in options.pieces)
    versions = f"torch {torch.__version__}, autoprune {version('autoprune')}"
    machine = environment()["cpu"]
    head = (
        f"`python -m tests.benchmarks.ablation {command}`, one thread of {machine}, {versions}. Hypervolume"
        " after so many candidates: median over the seeds (worst–best). Tasks and reference points are those of"
        " [the comparison with other searches](benchmarks.md), but for the scorers, which are the default ones,"
        " unless a row says otherwise. What was tried and left out is in [left_out.md](../left_out.md)."
    )
    parts = ["# What each piece of the search is worth", head, *([options.note] if options.note else [])]
    for name in options.tasks:
        table = [f"## {TASKS[name].title}", ""]
        table += [
            "| | " + " | ".join(f"after {mark}" for mark in marks) + " | seconds |",
            "|---" * (len(marks) + 2) + "|",
        ]
        table += [_row(name, title, options, marks) for title in options.pieces]
        parts.append("\n".join(table))
        options.output.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _row(task: str, title: str, options: argparse.Namespace, marks: Sequence[int]) -> str:
    volumes, seconds = [], []
    for seed in range(options.seeds):
        setting = load_setting(TASKS[task], seed=seed, cache=options.data)
        recorder = Recorder(TASKS[task])
        with tempfile.TemporaryDirectory() as folder:
            run(setting, recorder, Path(folder), trials=options.trials, **{"scorer": DEFAULT_SCORER, **VARIANTS[title]})
        volumes.append(course(TASKS[task], recorder.points))
        seconds.append(recorder.points[-1]["seconds"])
    cells = [_spread([own[min(mark, len(own)) - 1] for own in volumes], ".3f") for mark in marks]
    line = f"| {title} | " + " | ".join(cells) + f" | {_spread(seconds, '.1f')} |"
    print(task, line, flush=True)
    return line


def _spread(values: Sequence[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


if __name__ == "__main__":
    main()
