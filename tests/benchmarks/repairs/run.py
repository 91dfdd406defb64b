"""One run: a network, a scorer, a method and a seed, at all levels; what comes of it is a JSON file."""

from __future__ import annotations

import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from .bench import LEVELS, Setting
from .methods import METHODS


def file_of(results: Path, network: str, scorer: str, method: str, seed: int) -> Path:
    """Where a run's result lies."""
    return results / network / f"{method}-{scorer if METHODS[method].cuts else 'any'}-{seed}.json"


def execute(setting: Setting, method: str, seed: int) -> dict[str, Any]:
    """Repair and measure at every level."""
    ctx = setting.context(seed)
    points = []
    for cut in map(setting.cut, LEVELS):
        torch.manual_seed(seed)
        start = time.process_time()
        network = METHODS[method].make(setting, ctx, cut)
        seconds = time.process_time() - start
        if METHODS[method].cuts:  # the same function in fewer steps
            network = setting.bench.structure.folded(network)
        accuracy = setting.accuracy(network)
        points.append(
            {"level": cut.level, "ratio": cut.ratio, "macs": cut.macs, "accuracy": accuracy, "cpu_s": seconds}
        )
    return {"points": points, "environment": environment()}


def environment() -> dict[str, str]:
    """What it ran in."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    return {
        "cpu": f"{len(names)} × {names[0]}" if names else platform.machine(),
        "bfloat16": "with bfloat16 units" if "bf16" in flags else "without bfloat16 units",
        "load": f"{os.getloadavg()[0]:.1f}",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, autoprune {version('autoprune')}",
    }


def write(file: Path, stored: dict[str, Any]) -> None:
    """Write a result, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".part")
    unfinished.write_text(json.dumps(stored, indent=1), encoding="utf-8")
    unfinished.replace(file)
