"""What knobs beside the ratios are worth: ``python -m tests.benchmarks.knobs`` writes docs/measured/knobs.md.

    --tasks wide-mlp digits    --seeds 3    --trials 40    --rows ratios "ratios, ranks" …

The same search, with the same number of trials, of ratios alone and of ratios and other knobs: ranks of linear layers,
the learning rate of a short training, one of three scorers. A wide MLP on MNIST, where rank matters, and a small
convolutional net on the digits, where it hardly does. One process, one thread; MNIST is found as for the examples,
through AUTOPRUNE_DATA. A table per task: hypervolume after some trials (median over the seeds, worst and best), of the
last front on the test split, and the seconds of the whole search.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch

from autoprune import search, spec_from_mapping
from autoprune.plugin import Measured
from autoprune.plugin.volume import hypervolume
from autoprune.study import SearchResult

from .peers.run import environment
from .peers.tasks import EXAMPLES, ROOT, TEST_SAMPLES, Setting, Task, load_setting

_SCORERS = [{"use": "l1"}, {"use": "l2", "weights": "fan-out"}, {"use": "taylor"}]
_RANKS: dict[str, Any] = {"transforms": [{"use": "low-rank"}]}
_RATE = {"low": 1e-4, "high": 1e-1, "log": True}


@dataclass(frozen=True)
class Bench:
    """A task, and how its candidates are recovered."""

    task: Task
    plain: Mapping[str, Any] | None
    """Recovery without training; None for none."""
    tuned: Mapping[str, Any]
    """A short training."""

    def rows(self) -> dict[str, dict[str, Any]]:
        """Sections of the spec, by what is searched."""
        strategy: dict[str, Any] = {"use": "one-shot"} | ({} if self.plain is None else {"recover": self.plain})
        trained, searched = ({"use": "one-shot", "recover": {**self.tuned, **rate}} for rate in ({}, {"lr": _RATE}))
        return {
            "ratios": {"strategy": strategy},
            "ratios, ranks": {"strategy": strategy, **_RANKS},
            "ratios; trained": {"strategy": trained},
            "ratios, ranks; trained": {"strategy": trained, **_RANKS},
            "ratios, ranks, learning rate, scorer; trained": {
                "strategy": searched,
                "scorer": {"choose": _SCORERS},
                **_RANKS,
            },
        }


def _bench(
    name: str,
    title: str,
    spec: Path,
    *,
    accuracy: str,
    plain: Mapping[str, Any] | None,
    tuned: Mapping[str, Any],
) -> Bench:
    overrides = (
        "search_space={ratio: {low: 0.0, high: 0.9}}",
        "scorer=[{use: l1}, {use: l2, weights: fan-out}, {use: taylor}]",
        f"evaluators=[{{use: macs}}, {accuracy}]",
        "objectives={accuracy: maximize, macs_ratio: minimize}",
        "constraints={}",
    )
    task = Task(
        name,
        title,
        spec,
        overrides,
        objectives={"accuracy": "maximize", "macs_ratio": "minimize"},
        reference={"accuracy": 0.1, "macs_ratio": 1.0},
        budgets={},
    )
    return Bench(task, plain, tuned)


BENCHES = {
    bench.task.name: bench
    for bench in (
        _bench(
            "wide-mlp",
            "Wide MLP on MNIST",
            Path(__file__).with_name("wide_mlp.yaml"),
            accuracy="{use: accuracy, samples: 2000}",
            plain=None,
            tuned={"use": "fine-tune", "epochs": 0.1},
        ),
        _bench(
            "digits",
            "Small CNN on digits",
            EXAMPLES / "digits.yaml",
            accuracy="{use: accuracy}",
            plain={"use": "bn-recalibration", "samples": 512},
            tuned={"use": "fine-tune", "epochs": 1, "batch_size": 64},
        ),
    )
}
ROWS = list(BENCHES["digits"].rows())


@dataclass(frozen=True)
class Run:
    """What one search came to."""

    volumes: Sequence[float]
    """Hypervolume after each trial."""
    test: float
    """Of the last front, on the test split."""
    thin: float
    """Share of its members with a layer of a lower rank."""
    seconds: float


def measured(setting: Setting, sections: Mapping[str, Any], *, trials: int) -> Run:
    """Run a search.

    Args:
        setting: The task; its seed is the search's.
        sections: Of the spec, in place of the task's.
        trials: Their number, the dense model's included.
    """
    plain = {key: value for key, value in setting.spec.model_dump(mode="json").items() if key != "search"}
    options = {"trials": trials, "seed": setting.spec.search.seed, "precision": "float32"}
    with tempfile.TemporaryDirectory() as folder:
        changed = {"search": options, "output": f"{folder}/study", **sections}
        spec = spec_from_mapping(plain | changed, host=setting.host, folder=Path(folder))
        start = perf_counter()
        result = search(spec, host=setting.host)
        seconds = perf_counter() - start
    volume = partial(_volume, setting.task)
    done = [trial.metrics if trial.state == "complete" else {} for trial in result.outcome.trials]
    return Run(
        volumes=[volume(done[:count]) for count in range(1, len(done) + 1)],
        test=volume([point.test for point in result.front.points]),
        thin=_thin(result),
        seconds=seconds,
    )


def _volume(task: Task, found: Iterable[Mapping[str, Measured]]) -> float:
    points = [task.losses({name: own[name].value for name in task.objectives}) for own in found if own]
    return hypervolume(np.array(points), np.array(task.losses(task.reference)))


def _thin(result: SearchResult) -> float:
    knobs = [point.trial.knobs for point in result.front.points]
    thin = [any(name.startswith("low-rank.") and float(own[name]) < 1 for name in own) for own in knobs]
    return sum(thin) / len(thin)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(BENCHES), choices=BENCHES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--rows", nargs="+", default=ROWS, choices=ROWS, help="if not all")
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "autoprune-knobs")
    parser.add_argument("--note", default="", help="a remark for the page's head")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "measured" / "knobs.md")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    marks = [mark for mark in (10, 20, 40, 60, 80) if mark <= options.trials]
    parts = ["# What knobs beside the ratios are worth", _head(options), *([options.note] if options.note else [])]
    for name in options.tasks:
        task = BENCHES[name].task
        titles = ["searched", *(f"after {mark}" for mark in marks), "test split", "seconds", "thin"]
        table = [f"## {task.title}", "", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
        settings = [load_setting(task, seed=s, cache=options.data, glance=TEST_SAMPLES) for s in range(options.seeds)]
        table += [_row(name, title, settings, options.trials, marks) for title in options.rows]
        parts.append("\n".join(table))
        options.output.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _head(options: argparse.Namespace) -> str:
    command = f"--tasks {' '.join(options.tasks)} --seeds {options.seeds} --trials {options.trials}"
    if options.rows != ROWS:
        command += " --rows " + " ".join(f'"{title}"' for title in options.rows)
    versions = f"torch {torch.__version__}, autoprune {version('autoprune')}"
    return (
        f"`python -m tests.benchmarks.knobs {command}`, one thread of {environment()['cpu']}, {versions}. Accuracy ×"
        " multiply-accumulates; hypervolume between the front and an accuracy of 0.1 at the dense model's costs, after"
        " so many trials, and of the last front on the test split: median over the seeds (worst–best). *Thin*: of the"
        " last front's members, those with a layer of a lower rank. All searches have the default sampler; of the"
        " scorers, L1, L2 of the weights that read, and Taylor, each group has the one whose cuts do least harm, but"
        " in the last row the search chooses one for all groups. *Trained* candidates are fine-tuned after the cut,"
        " for a tenth of an epoch (digits: one), at the default learning rate of 0.01, or at one that the search"
        " chooses between 0.0001 and 0.1."
    )


def _row(name: str, title: str, settings: Sequence[Setting], trials: int, marks: Sequence[int]) -> str:
    runs = [measured(setting, BENCHES[name].rows()[title], trials=trials) for setting in settings]
    cells = [_spread([run.volumes[min(mark, len(run.volumes)) - 1] for run in runs], ".3f") for mark in marks]
    cells += [_spread([run.test for run in runs], ".3f"), _spread([run.seconds for run in runs], ".0f")]
    line = f"| {title} | " + " | ".join(cells) + f" | {median(run.thin for run in runs):.0%} |"
    print(name, line, flush=True)
    return line


def _spread(values: Sequence[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


if __name__ == "__main__":
    main()
