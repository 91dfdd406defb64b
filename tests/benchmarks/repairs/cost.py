"""What a candidate's repair takes: CPU seconds and memory beside recalibrating its norms, and how both grow."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoprune.plugin import Data, PruneContext, Pruned, Recovery, Split
from autoprune.study.native_memory import held
from autoprune.testing import Bench
from autoprune_recoveries.bn_recalibration import BatchNormRecalibration
from autoprune_recoveries.repair import Repair

from .bench import LEVELS, Setting
from .run import environment, write

ROUNDS = 7
BATCH = 128
RECOVERIES: Mapping[str, Recovery] = {
    "recalibration": BatchNormRecalibration(samples=512, batch_size=BATCH),
    "repair": Repair(),
}
USUAL = {"width": 32, "depth": 8, "rows": 8000}
GROWTH = {"width": (16, 32, 64, 128), "depth": (4, 8, 16, 32), "rows": (2000, 8000, 32_000)}
PARTS = ("dense", "recalibration", "repair", "final")
"""Processes whose memory is compared: one evaluates the dense model, the others recover a candidate."""


def run(results: Path, networks: Sequence[str]) -> None:
    """Measure what has not been measured."""
    for network in networks:
        _once(results / network / "seconds.json", lambda network=network: seconds(Setting(network, "l2")))
        _once(results / network / "memory.json", lambda network=network: memory(network))
    _once(results / "growth.json", growth)


def _once(file: Path, make: Callable[[], dict[str, Any]]) -> None:
    if not file.exists():
        write(file, make() | {"environment": environment()})
        print(f"{time.strftime('%H:%M:%S')} {file}", file=sys.stderr, flush=True)


def seconds(setting: Setting) -> dict[str, Any]:
    """At each level CPU seconds of the recoveries in turn, and of the first repair, which runs the dense network."""
    found: dict[str, Any] = {}
    for cut in map(setting.cut, LEVELS):
        ctx = setting.context(0)
        first = timed(Repair(), setting.pruned(cut), ctx)
        spent = in_turn(lambda cut=cut: setting.pruned(cut), ctx)
        found[f"{cut.level:g}"] = {"first": first, **spent}
    return found


def in_turn(
    pruned: Callable[[], Pruned], ctx: PruneContext, recoveries: Mapping[str, Recovery] = RECOVERIES
) -> dict[str, list[float]]:
    """CPU seconds of each recovery, one after the other, again and again; the first round does not count."""
    spent: dict[str, list[float]] = {name: [] for name in recoveries}
    for _ in range(1 + ROUNDS):
        for name, recovery in recoveries.items():
            spent[name].append(timed(recovery, pruned(), ctx))
    return {name: each[1:] for name, each in spent.items()}


def timed(recovery: Recovery, pruned: Pruned, ctx: PruneContext) -> float:
    """CPU seconds of one thread."""
    _ = pruned.network  # is made when it is asked for
    start = time.process_time()
    recovery.recover(pruned, ctx)
    return time.process_time() - start


def growth() -> dict[str, Any]:
    """The same of plain nets of random weights, one number changed at a time."""
    found: dict[str, Any] = {}
    for what, values in GROWTH.items():
        for value in values:
            at = USUAL | {what: value}
            bench = Bench(plain_net(at["width"], at["depth"]), images())
            recoveries = {**RECOVERIES, "repair": Repair(rows=at["rows"])}
            cut = bench.uniform(0.3)
            spent = in_turn(lambda bench=bench, cut=cut: bench.pruned(cut), bench.prune_context(), recoveries)
            found.setdefault(what, {})[str(value)] = {name: statistics.median(each) for name, each in spent.items()}
    return found


def plain_net(width: int, depth: int) -> nn.Module:
    """So many convolutions of 3 × 3 with their norms, and a linear layer."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for index in range(depth):
        layers += [nn.Conv2d(width if index else 3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)).eval()


def images() -> Data:
    """Noise of 16 × 16."""
    random = torch.Generator().manual_seed(0)
    return Data(
        *(
            Split.of_tensors(torch.rand(count, 3, 16, 16, generator=random), torch.zeros(count, dtype=torch.int64))
            for count in (512, 64, 64)
        ),
        classes=10,
    )


def memory(network: str) -> dict[str, Any]:
    """Peak of processes (resident set, MiB, Linux), and what they held when model and data were there."""
    found = {}
    for part in PARTS:
        command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.repairs.cost", network, part]
        found[part] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def _part(network: str, part: str) -> dict[str, float]:
    torch.set_num_threads(1)
    setting = Setting(network, "l2")
    loaded = held("VmRSS")
    if part == "dense":
        predictor = setting.bench.predictor(setting.bench.network)
        with torch.inference_mode():
            for inputs, _ in setting.bench.data.validation.batches(BATCH, samples=1000):
                inputs.feed(predictor)
    else:
        ctx = setting.context(0)
        recovery = Repair().final() if part == "final" else RECOVERIES[part]
        for _ in range(2):
            recovery.recover(setting.pruned(setting.cut(LEVELS[0])), ctx)
    return {"loaded": loaded / 2**20, "peak": held("VmHWM") / 2**20}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="memory of one process")
    parser.add_argument("network")
    parser.add_argument("part", choices=PARTS)
    told = parser.parse_args()
    print(json.dumps(_part(told.network, told.part)))
