"""What a trial costs beside the work that it is for, and what applying a candidate costs.

    python tests/benchmarks/trial_overhead.py [--trials 12] [--repeats 40] [--spec search_spaces/examples/…]

Prints, as medians with quartiles: the stages of a real search's trials, the part of a trial that is spent outside
evaluators and recovery (target: under 2 % for ResNet-20), and the cost of cutting ResNet-56 (target: under 10 ms) next
to Torch-Pruning's if that is installed. The data of the spec must be there, see its comments.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from autoprune import hookimpl
from autoprune.host.binding import load_spec
from autoprune.host.plugins import PluginHost
from autoprune.plugin import StudyInfo, TrialResult
from autoprune.structure import discover
from autoprune.study import search

EXAMPLES = Path(__file__).parents[2] / "search_spaces" / "examples"


class Stopwatch:
    """Wall-clock time from one trial's end to the next one's: the coordinator's work is part of a trial."""

    def __init__(self) -> None:
        self.trials: list[tuple[TrialResult, float]] = []
        self._since = 0.0

    @hookimpl
    def autoprune_study_started(self, study: StudyInfo) -> None:
        self._since = time.perf_counter()

    @hookimpl
    def autoprune_trial_finished(self, result: TrialResult) -> None:
        now = time.perf_counter()
        self.trials.append((result, now - self._since))
        self._since = now


def spread(values: Sequence[float], *, scale: float = 1e3, unit: str = "ms") -> str:
    """Median and quartiles."""
    low, middle, high = (scale * v for v in statistics.quantiles(values, n=4, method="inclusive"))
    return f"{middle:9.2f} {unit}  ({low:.2f} to {high:.2f}, n = {len(values)})"


def trials(spec: Path, *, count: int, recover: bool) -> list[tuple[TrialResult, float]]:
    """A real search's trials, without tracking."""
    overrides = [f"search.trials={count}", "tracking.enabled=false"]
    host, watch = PluginHost(), Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        overrides.append(f"output={folder}/study")
        if not recover:
            overrides += ["strategy={use: one-shot}", "evaluators=[{use: params}]", "objectives={params: minimize}"]
        search(load_spec(spec, overrides=overrides, host=host), host=host, observers=[watch])
    # Repeated cuts are not run; the dense trial has no cut, the one after it all scores.
    return [(result, wall) for result, wall in watch.trials if result.reason is None][2:]


def report_trials(spec: Path, count: int) -> None:
    """Stages of a trial, and what is neither evaluators nor recovery."""
    bare = trials(spec, count=count, recover=False)
    # With no recovery and no evaluator to run, the stage that recovers is all ranking and checking.
    ranking = statistics.median(result.durations_s["recover"] for result, _ in bare)
    full = trials(spec, count=count, recover=True)
    own = {"cut", "save", "score"}
    stages = list(dict.fromkeys(name for result, _ in full for name in result.durations_s))
    print(f"\n{spec.name}: {len(full)} trials, {torch.get_num_threads()} threads")
    for name in stages:
        print(f"  {name:<24}{spread([result.durations_s.get(name, 0.0) for result, _ in full])}")
    work = [sum(s for name, s in result.durations_s.items() if name not in own) - ranking for result, _ in full]
    print(f"  {'ranking, checks':<24}{1e3 * ranking:9.2f} ms  (in recover; measured without a recovery)")
    outside = [wall - passes for (_, wall), passes in zip(full, work, strict=True)]
    asked = [wall - sum(result.durations_s.values()) for result, wall in full]
    print(f"  {'ask, tell, front':<24}{spread(asked)}")
    print(f"  {'whole trial':<24}{spread([wall for _, wall in full])}")
    print(f"  {'outside the passes':<24}{spread(outside)}")
    shares = [lost / wall for lost, (_, wall) in zip(outside, full, strict=True)]
    print(f"  {'part of the trial':<24}{spread(shares, scale=100, unit='% ')}  target: < 2 %")


def timed(call: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each call, after one that does not count."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def report_cut(repeats: int) -> None:
    """A candidate applied to ResNet-56, copy included."""
    sys.path.insert(0, str(EXAMPLES))
    from cifar_resnet import resnet56

    network = resnet56().eval()
    example = torch.rand(4, 3, 32, 32)
    start = time.perf_counter()
    structure = discover(network, (example,))
    print(
        f"\nResNet-56, {len(structure.groups)} groups, found and verified once in {time.perf_counter() - start:.1f} s"
    )
    kept = {group.name: torch.randperm(group.units)[: group.units // 2].sort().values for group in structure.groups}
    print(f"  {'autoprune: cut':<24}{spread(timed(lambda: structure.cut(network, kept), repeats))}  target: < 10 ms")
    if importlib.util.find_spec("torch_pruning") is None:
        print("  torch-pruning is not installed: pip install 'autoprune[bench]'")
        return
    print(f"  {'torch-pruning':<24}{spread(timed(lambda: torch_pruning(network, example), max(3, repeats // 4)))}")


def torch_pruning(network: nn.Module, example: Tensor) -> nn.Module:
    """The same ratio with Torch-Pruning: copy, dependency graph, cut."""
    import torch_pruning as tp

    copied = copy.deepcopy(network)
    for parameter in copied.parameters():
        parameter.requires_grad_(True)
    linear = [module for module in copied.modules() if isinstance(module, nn.Linear)]
    pruner = tp.pruner.MagnitudePruner(
        copied, example, importance=tp.importance.MagnitudeImportance(p=1), pruning_ratio=0.5, ignored_layers=linear
    )
    pruner.step()
    return copied


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", type=Path, default=EXAMPLES / "cifar10_resnet20.yaml")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=40)
    options = parser.parse_args()
    report_cut(options.repeats)
    report_trials(options.spec, options.trials)


if __name__ == "__main__":
    main()
