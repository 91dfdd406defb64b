"""The examples on a graphics card, held against the CPU: ``python -m tests.benchmarks.graphics_card [--seconds 150]``.

Searches the digits and ResNet-20 examples for so many seconds each on the card, prints candidates per minute, the
front, and how far the metrics of the front's models are from those of the same models measured on the CPU. Run with
``--device cpu`` it tries itself. ResNet-20 needs the data of its spec, see its comments.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from autoprune.host.binding import load_spec
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Cost
from autoprune.study import SearchResult, resolve, search
from autoprune.study.measuring import Measuring
from autoprune.study.stages import Stages

EXAMPLES = Path(__file__).parents[2] / "search_spaces" / "examples"
SPECS = ("digits", "cifar10_resnet20")


def searched(name: str, *, device: str, seconds: float, folder: Path) -> tuple[SearchResult, float]:
    """A search of an example, and the minutes that it took."""
    overrides = (
        f"device={device}",
        f"search.timeout={seconds:g}s",
        "search.trials=1000",
        "tracking.enabled=false",
        f"output={folder}",
    )
    start = time.perf_counter()
    result = search(load_spec(EXAMPLES / f"{name}.yaml", overrides=overrides))
    return result, (time.perf_counter() - start) / 60


def deviations(name: str, result: SearchResult) -> dict[str, float]:
    """Per metric that no clock makes, the largest difference between card and CPU over the front's models."""
    host = PluginHost()
    spec = load_spec(EXAMPLES / f"{name}.yaml", overrides=("device=cpu",), host=host)
    problem = resolve(spec, host, worker=0)
    measuring = Measuring(problem)
    timed = {metric.name for metric in problem.metrics.values() if metric.cost is Cost.TIMING}
    found: dict[str, float] = {}
    for point in result.front.points:
        if point.trial.model is None:
            continue
        network, costs = problem.opened(point.trial.model), problem.costs(choices=point.trial.knobs)
        for evaluator in problem.components.evaluators:
            if {metric.name for metric in evaluator.produces(problem.data)} & (timed | {"params", "macs"}):
                continue
            stages = Stages(problem.device)
            measured = measuring(evaluator, network, costs, split="validation", stages=stages)
            for metric, value in measured.items():
                off = abs(value.value - point.trial.metrics[metric].value)
                found[metric] = max(found.get(metric, 0.0), off)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seconds", type=float, default=150.0, help="of each search, before the front is measured again"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--specs", nargs="+", choices=SPECS, default=SPECS)
    options = parser.parse_args(arguments)
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no card", torch.__version__)
    for name in options.specs:
        with tempfile.TemporaryDirectory() as folder:
            result, minutes = searched(
                name, device=options.device, seconds=options.seconds, folder=Path(folder) / "study"
            )
            trials = result.outcome.trials
            states = {
                state: sum(trial.state == state for trial in trials) for state in ("complete", "failed", "rejected")
            }
            print(f"\n{name}: {len(trials)} trials {states} in {minutes:.1f} min, front measured again included")
            print(f"  {60 * len(trials) / options.seconds:.1f} candidates per minute; precision {trials[-1].precision}")
            print(f"  front of {len(result.front.points)}, hypervolume {result.front.hypervolume:.4f}")
            for point in result.front.points:
                metrics = ", ".join(f"{m} {point.trial.metrics[m].value:.4g}" for m in result.front.objectives)
                print(f"    trial {point.trial.number}: {metrics}")
            off = ", ".join(f"{metric} {value:.4f}" for metric, value in deviations(name, result).items())
            print(f"  largest difference from the CPU: {off}")


if __name__ == "__main__":
    main()
