"""A published table of pruning ResNet-v1 on CIFAR-10, made again: accuracy and time at given cuts of the parameters.

    AUTOPRUNE_DATA=/path/to/folder python -m tests.benchmarks.seed_article

Per level a search, whose candidates are repaired without training, the choice of one model and its fine-tuning; then
all are measured on the test images. Beside it one search without any training, for all levels. Every step leaves a file
in ``--results`` and is skipped where that is there. The table goes to ``--output``. Run it with ``OMP_NUM_THREADS=1``
on a machine that does nothing else; the data is that of the example spec.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import autoprune
from autoprune.host.binding import bind, load_spec
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Data, EvaluationContext, Pruned, SplitName
from autoprune.spec import Spec
from autoprune.structure import discover
from autoprune.study import Problem, read_study, resolve
from autoprune_evaluators.forward import Accuracy
from autoprune_evaluators.latency import Latency
from autoprune_recoveries.fine_tune import FineTune

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "search_spaces" / "examples" / "cifar10_resnet20.yaml"
DATA = Path(os.environ.get("AUTOPRUNE_DATA", ROOT.parent / "shared")).resolve() / "data" / "cifar10"

ARTICLE_DENSE = 91.70, 26.10
ARTICLE = {
    20: (86.73, 24.35), 40: (83.93, 23.40), 60: (82.20, 23.00), 80: (80.71, 22.58), 90: (79.36, 22.30),
    95: (78.54, 22.14),
}  # fmt: skip
"""Percent of the parameters that go, to test accuracy in percent and inference time in ms."""

EPOCHS = {20: 0.5, 40: 0.75, 60: 1.5, 80: 2.5, 90: 6.0, 95: 12.0}
"""Small nets take less time per epoch, and need more of them."""
RATE = {20: 0.01, 40: 0.02, 60: 0.02, 80: 0.05, 90: 0.05, 95: 0.05}
BEFORE = {20: 2.01, 40: 4.11, 60: 5.23, 80: 6.93, 90: 10.21, 95: 12.40}
"""Points of accuracy that were lost with recalibrated candidates (at 90 and 95 % fine-tuned ones), as much training."""
BUDGET_S = 30 * 60
SEED = 0
TRIALS = 16
UNTRAINED_TRIALS = 60
TIME = {20: 0.88, 40: 0.82, 60: 0.72, 80: 0.62, 90: 0.55, 95: 0.50}
"""Largest share of the dense model's time, measured in every trial."""
FEWEST = 0.85
"""Of the parameters that a level allows, the part that a candidate must have."""


class Stopwatch(nn.Module):
    """Remembers how long each call of a network took."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.ms: list[float] = []
        self.train(network.training)  # a predictor would set the network to the mode of what it wraps

    def forward(self, x: Tensor) -> Tensor:
        """As the network."""
        start = time.perf_counter()
        y = self.network(x)
        self.ms.append(1e3 * (time.perf_counter() - start))
        return y


class Bench:
    """The steps, and the files between them."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self._host = PluginHost()

    def step(self, name: str, make: Callable[..., Any] | None = None, *arguments: object) -> Any:
        """What a step found, now or in an earlier run."""
        file = self.results / f"{name}.json"
        if make is not None and not file.exists():
            print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
            file.write_text(json.dumps(make(*arguments), indent=1), encoding="utf-8")
        return json.loads(file.read_text(encoding="utf-8"))

    def spec(self, level: int) -> Spec:
        """The search of a level, which begins with the model of the level before, fine-tuned."""
        params, before = self.problem.structure.costs().params, self._before(level)
        most = params * (100 - level) / 100
        base = self.step(f"tuned-{before}")["params"] if before else params
        time = TIME[level] / (self.step(f"chosen-{before}")["time"] if before else 1.0)
        bounds = f'params: "<= {most:.0f}", params_ratio: ">= {FEWEST * most / base:.4f}", '
        bounds += f'latency_ratio: "<= {time:.4f}"'
        return self._spec(
            *([f"model={{use: exported, path: {self._tuned(before)}}}"] if before else []),
            f"name=level-{level}",
            f"output={self._study(level)}",
            f"constraints={{{bounds}}}",
        )

    def _spec(self, *overrides: str) -> Spec:
        common = (
            f"data.path={self._training_data()}",
            "data.test=256",
            "search_space={use: channels, form: graph, ratio: {low: 0.0, high: 0.95}}",
            "strategy={use: one-shot, recover: {use: repair}}",
            "evaluators=[{use: params}, {use: latency, batch_size: 64, seconds: 4}, {use: accuracy, samples: 1000}]",
            "objectives={accuracy: maximize, latency_ratio: minimize}",
            f"search.trials={TRIALS}",
            f"search.seed={SEED}",
            "tracking.enabled=false",
        )
        return load_spec(SPEC, overrides=[*common, *overrides], host=self._host)

    @cached_property
    def problem(self) -> Problem:
        """The dense model, its groups, and the data that searches and training see."""
        return resolve(self._spec(), self._host)

    @cached_property
    def data(self) -> Data:
        """The data with all test images."""
        return bind(load_spec(SPEC, host=self._host), self._host).data.load(self.problem.sources)

    def _training_data(self) -> Path:
        """A folder without the test images: the searches and the training can't see them, and end without them."""
        folder = self.results / "data"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "train.parquet").exists():
            (folder / "train.parquet").symlink_to(DATA / "train.parquet")
        return folder.resolve()

    # The steps.

    def search(self, level: int) -> dict[str, Any]:
        """Run the search of a level, from the start if an earlier run was cut off."""
        shutil.rmtree(self._study(level), ignore_errors=True)
        start, cpu = time.perf_counter(), time.process_time()
        result = autoprune.search(self.spec(level))
        if result.outcome.interrupted:
            raise KeyboardInterrupt
        states = Counter(trial.state for trial in result.outcome.trials)
        return {
            "trials": states.total(),
            **states,
            "wall_s": time.perf_counter() - start,
            "cpu_s": time.process_time() - cpu,
        }

    def untrained(self) -> dict[str, Any]:
        """One search from the dense model, accuracy against parameters: per level the best one that is small enough."""
        folder = self.results / "search-untrained"
        shutil.rmtree(folder, ignore_errors=True)
        cpu = time.process_time()
        result = autoprune.search(
            self._spec(
                "name=untrained",
                f"output={folder}",
                "evaluators=[{use: params}, {use: accuracy, samples: 1000}]",
                "objectives={accuracy: maximize, params: minimize}",
                "constraints={}",
                f"search.trials={UNTRAINED_TRIALS}",
            )
        )
        if result.outcome.interrupted:
            raise KeyboardInterrupt
        found: dict[str, Any] = {"cpu_s": time.process_time() - cpu}
        dense = self.problem.structure.costs().params
        trials = [point.trial for point in result.front.points]
        for level in ARTICLE:
            small = [t for t in trials if t.metrics["params"].value <= dense * (100 - level) / 100]
            if small:
                chosen = max(small, key=lambda trial: trial.metrics["accuracy"].value)
                network = autoprune.load_pruned(folder / "models" / str(chosen.number), trust=True)
                found[str(level)] = {"params": chosen.metrics["params"].value, "accuracy": self._accuracy(network)}
        return found

    def repaired(self, level: int) -> dict[str, Any]:
        """The chosen model as it is before its fine-tuning, on the test images."""
        return self._accuracy(self._load(level, self.step(f"chosen-{level}")["trial"]))

    def choose(self, level: int) -> dict[str, Any]:
        """The model to fine-tune: the best one on validation. All are within the level's bounds."""
        study = read_study(self._study(level))
        chosen = max((point.trial for point in study.front.points), key=lambda trial: trial.metrics["accuracy"].value)
        timed = self._latency(self._load(level, chosen.number), Latency(seconds=4.0))
        return {
            "trial": chosen.number,
            "accuracy": chosen.metrics["accuracy"].value,
            "time": timed["latency_ratio"]["value"],
            "kept": {g.name: round((1 - chosen.achieved[g.name]) * g.units) for g in study.study.groups},
        }

    def tune(self, level: int) -> dict[str, Any]:
        """Fine-tune, in bfloat16 where the machine has units for it; the weights stay in float32."""
        problem = self.problem
        network = self._load(level, self.step(f"chosen-{level}")["trial"])
        context = problem.contexts.pruning(
            problem.predictor, seed=SEED, cache={}, score=lambda _: {}, once=lambda _, make: make()
        )
        network.to(memory_format=torch.channels_last)
        start, cpu = time.perf_counter(), time.process_time()
        # Without its cache: autocast would go on using the weights of the first step.
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(), cache_enabled=False):
            FineTune(epochs=EPOCHS[level], lr=RATE[level]).recover(Pruned(network), context)
        found = {"wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
        inputs, _ = problem.data.validation.fetch(torch.arange(2))
        network.to(memory_format=torch.contiguous_format)
        autoprune.save_program(network, problem.predictor(network).normalized(inputs), self._tuned(level))
        costs = discover(network, problem.predictor(network).normalized(inputs), form="graph").costs()
        return {**found, "params": costs.params, "macs": costs.macs}

    def measure(self, level: int) -> dict[str, Any]:
        """Accuracy on all test images and latency, in float32; of the dense model for level 0."""
        problem = self.problem
        network = autoprune.load_program(self._tuned(level)) if level else problem.network
        return {"accuracy": self._accuracy(network), **self._latency(network, Latency(seconds=15.0))}

    # What they share.

    def _accuracy(self, network: nn.Module) -> dict[str, Any]:
        """On all test images, in float32."""
        found = Accuracy().evaluate(self.problem.predictor(network), self._context("test"))
        return found["accuracy"].model_dump()

    def _latency(self, network: nn.Module, timing: Latency) -> dict[str, Any]:
        """The evaluator's metrics, and the dense model's milliseconds."""
        dense = Stopwatch(self.problem.network)
        found = timing.evaluate(self.problem.predictor(network), self._context("validation", dense=dense))
        times = {name: metric.model_dump() for name, metric in found.items()}
        return {**times, "dense_ms": statistics.quantiles(dense.ms[timing.warmup :], n=4, method="inclusive")}

    def _context(self, split: SplitName, *, dense: nn.Module | None = None) -> EvaluationContext:
        problem = self.problem
        data, costs = self.data if split == "test" else problem.data, problem.structure.costs()
        return EvaluationContext(
            device=problem.device,
            seed=SEED,
            data=data,
            task=problem.components.task,
            split=split,
            dense=problem.predictor(dense or problem.network),
            costs=costs,
            dense_costs=costs,
        )

    def _before(self, level: int) -> int:
        """The level before, 0 for the dense model."""
        return max((other for other in ARTICLE if other < level), default=0)

    def _load(self, level: int, trial: int) -> nn.Module:
        return autoprune.load_pruned(self._study(level) / "models" / str(trial), trust=True)

    def _study(self, level: int) -> Path:
        return self.results / f"search-{level}"

    def _tuned(self, level: int) -> Path:
        return self.results / f"tuned-{level}.pt2"


def has_bfloat16() -> bool:
    """Whether the machine has units for bfloat16, without which it is slower than float32."""
    return "bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")


def dense_facts(problem: Problem) -> dict[str, Any]:
    """What the dense model is made of."""
    costs, groups = problem.structure.costs(), problem.structure.groups
    return {"params": costs.params, "macs": costs.macs, "groups": {group.name: group.units for group in groups}}


def conditions() -> dict[str, str]:
    """The machine and the versions."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": f"{len(names)} × {names[0].partition(': ')[2]}",
        "threads": str(torch.get_num_threads()),
        "load": f"{os.getloadavg()[0]:.1f}",
        "units": "with bfloat16 units" if has_bfloat16() else "without bfloat16 units",
        "training": "bfloat16 (autocast, channels last), weights in float32" if has_bfloat16() else "float32",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, optuna {version('optuna')}",
    }


def report(step: Callable[[str], Any], note: str) -> str:
    """The page.

    Args:
        step: Name of a step to what it found.
        note: On this run.
    """
    dense = step("measured-0")["accuracy"]
    untrained = step("untrained")
    verdicts, details, missed, short = [], [], [], []
    spent = searched = 0.0
    for level, (accuracy, ms) in ARTICLE.items():
        search, chosen, tuned, found = (step(f"{name}-{level}") for name in ("search", "chosen", "tuned", "measured"))
        ours, ratio = found["accuracy"], found["latency_ratio"]
        spent, searched = spent + tuned["cpu_s"], searched + search["cpu_s"]
        drops = ARTICLE_DENSE[0] - accuracy, 100 * (dense["value"] - ours["value"])
        savings = 100 * (1 - ms / ARTICLE_DENSE[1]), 100 * (1 - ratio["value"])
        if search["trials"] < TRIALS:
            short.append(f" The search at {level} % was cut off after {search['trials']} trials.")
        if drops[1] >= drops[0]:
            missed.append(f"the accuracy drop at {level} % by {drops[1] - drops[0]:.2f} points")
        if drops[1] >= BEFORE[level]:
            missed.append(f"the drop at {level} % with recalibration by {drops[1] - BEFORE[level]:.2f} points")
        if savings[1] <= savings[0]:
            missed.append(f"the time saving at {level} % by {savings[0] - savings[1]:.1f} points")
        left = [100 * tuned[key] / step("dense")[key] for key in ("params", "macs")]
        verdicts.append(
            [
                f"{level} %",
                f"{drops[0]:.2f}",
                f"{BEFORE[level]:.2f}",
                _bold(f"{drops[1]:.2f}", drops[1] < min(drops[0], BEFORE[level])),
                _drop(dense, step(f"repaired-{level}")),
                _drop(dense, untrained[str(level)]["accuracy"]) if str(level) in untrained else "none so small",
                f"{savings[0]:.1f}",
                _bold(f"{savings[1]:.1f}", savings[1] > savings[0]),
                f"{tuned['params']:,} ({left[0]:.1f} %)",
                f"{tuned['macs'] / 1e6:.1f} M ({left[1]:.0f} %)",
                # A single unit that was left cannot go and makes no group at the levels after that.
                " ".join(str(chosen["kept"].get(group, 1)) for group in step("dense")["groups"]),
            ]
        )
        details.append(
            [
                f"{level} %",
                _interval(ours),
                f"{100 * chosen['accuracy']:.1f} %",
                f"{EPOCHS[level]:g} from {RATE[level]:g}",
                f"{search['cpu_s']:.0f}",
                f"{tuned['cpu_s']:.0f}",
                _latencies(found),
                _interval(ratio),
            ]
        )
    return PAGE.format(
        **step("machine"),
        note=f"{note}\n\n" if note else "",
        seed=SEED,
        dense=_interval(dense),
        dense_article="{:.2f} %, {:.2f} ms".format(*ARTICLE_DENSE),
        spent=spent / 60,
        budget=BUDGET_S // 60,
        searched=searched / 60,
        trials=TRIALS,
        short="".join(short),
        untrained=UNTRAINED_TRIALS,
        untrained_min=untrained["cpu_s"] / 60,
        fewest=100 * FEWEST,
        times=" / ".join(f"{100 * share:.0f}" for share in TIME.values()),
        verdict="Missed: " + "; ".join(missed) + "." if missed else "Ours is better at every level, in both.",
        verdicts=_table(VERDICTS, verdicts),
        details=_table(DETAILS, details),
        groups=", ".join(f"`{name}` {units}" for name, units in step("dense")["groups"].items()),
    )


VERDICTS = (
    "parameters cut", "accuracy drop, article (points)", "ours, recalibrated candidates", "ours, repaired",
    "the same before fine-tuning", "no training at any level", "time saving, article (%)", "ours", "parameters left",
    "MACs left", "units kept per group",
)  # fmt: skip
DETAILS = (
    "parameters cut", "test accuracy (95 % interval)", "validation, before fine-tuning", "epochs, first rate",
    "search (CPU s)", "fine-tuning (CPU s)", "ms a batch: pruned / dense", "time over dense (95 % interval)",
)  # fmt: skip
PAGE = """# The table of a published article, made again

An article prunes ResNet-v1 on CIFAR-10 ({dense_article} dense) and loses much accuracy for little time. Here is its
table again, for the ResNet-20 of `search_spaces/examples/cifar10_resnet20.yaml`; test accuracy of our dense model:
{dense}. {verdict}

Made by `AUTOPRUNE_DATA=… OMP_NUM_THREADS=1 python -m tests.benchmarks.seed_article` on {cpu} {units},
{threads} thread; {versions}; seed {seed}. Other jobs ran beside it: load average {load} at the end.

{note}{verdicts}

Bold: better than the article's, and than our own with recalibrated candidates and as much training. Drops and savings
are against each one's own dense model. *Before fine-tuning* is the chosen model as it was repaired; what it was cut
from has had the training of the levels before. *No training at any level*: cut from the dense model and repaired, see
below. Groups, with their units in the dense model: {groups}.

## How it was made, and what it took

{details}

- **A chain**: each level begins with the fine-tuned model of the level before, the first one with the dense model.
- **Search**: {trials} trials per level ({searched:.1f} minutes of one core in all), default sampler and scorer;
  candidates are repaired: least squares to the model that they are cut from, without labels or training;
  validation accuracy (1,000 images) against time, which is measured for four seconds in every trial and at most
  {times} % of the dense model's; a candidate has {fewest:.0f} to 100 % of the parameters that the level allows.
  The pruned models are exported graphs, where the channels that shortcuts pad with zeros can go, too.{short}
- **Choice**: the best validation accuracy on the front.
- **No training**: one search from the dense model, accuracy against parameters, {untrained} trials
  ({untrained_min:.1f} minutes of one core), candidates repaired; per level the best validation accuracy among the
  members of the front that are small enough.
- **Fine-tuning**: {spent:.1f} minutes of one core for all six levels together (budget: {budget} minutes). `fine-tune`
  with its defaults (SGD, Nesterov momentum, cosine schedule, batches of 128, no augmentation), forward and backward
  in {training}. The number of epochs per level is fixed, the same as with recalibrated candidates, of which those at 90
  and 95 % were fine-tuned, too, for a tenth of an epoch each; now none is. A level's model has had the epochs of the
  levels before it, too; the dense model gets none.
- **Measurement**: all 10,000 test images, in float32 (Wilson's interval). Time: batches of 64 in float32, pruned and
  dense model in turn for 15 s or more, medians with 95 % intervals. The ratio survives a busy machine; the
  milliseconds do not.
- Searches and training have no access to the test file. Validation images are held out of the training file, all of
  which the dense weights have seen, so that validation comes out higher.
- **Not the same as the article's**: weights, machine, batch size, and the images, which are a JPEG re-encoding. One
  seed.
"""


def _bold(text: str, better: bool) -> str:
    return f"**{text}**" if better else text


def _drop(dense: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    return f"{100 * (dense['value'] - found['value']):.2f}"


def _interval(metric: Mapping[str, Any]) -> str:
    return f"{100 * metric['value']:.2f} % ({100 * metric['low']:.2f}–{100 * metric['high']:.2f})"


def _interval(metric: Mapping[str, Any]) -> str:
    return f"{metric['value']:.3f} ({metric['low']:.3f}–{metric['high']:.3f}, n = {metric['samples']})"


def _latencies(found: Mapping[str, Any]) -> str:
    low, middle, high = found["dense_ms"]
    ours = found["latency_ms"]
    return f"{ours['value']:.0f} ({ours['low']:.0f}–{ours['high']:.0f}) / {middle:.0f} ({low:.0f}–{high:.0f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Run what has not been run, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "runs" / "seed_article", help="files between the steps")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "measured" / "seed_article.md")
    parser.add_argument("--note", default="", help="what the page should say about this run, in markdown")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.results.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.results.resolve())
    bench.step("untrained", bench.untrained)
    steps = {"search": bench.search, "chosen": bench.choose, "repaired": bench.repaired, "tuned": bench.tune}
    for level in ARTICLE:
        for name, make in steps.items():
            bench.step(f"{name}-{level}", make, level)
    for level in (0, *ARTICLE):
        bench.step(f"measured-{level}", bench.measure, level)
    bench.step("dense", dense_facts, bench.problem)
    bench.step("machine", conditions)
    options.output.write_text(report(bench.step, options.note), encoding="utf-8")


if __name__ == "__main__":
    main()
