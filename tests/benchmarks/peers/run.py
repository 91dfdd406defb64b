"""One run: a method on a task with a seed, in this process; what comes of it is a JSON file."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from .measure import Measure
from .methods import Method
from .record import Point, Recorder, course
from .tasks import Setting, Task, load_setting, toy_setting

_PACKAGES = ("autoprune", "torch", "optuna", "torch-pruning", "nvidia-modelopt", "pquant-ml")


def result_file(results: Path, task: str, method: str, seed: int) -> Path:
    """Where a run's result lies."""
    return results / task / f"{method}-{seed}.json"


def known(file: Path, budget: int) -> dict[str, Any] | None:
    """The result that is there already; None if there is none of that budget."""
    with suppress(OSError, ValueError):
        stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if stored["budget"] == budget:
            return stored
    return None


def execute(task: Task, method: Method, *, seed: int, budget: int, results: Path, jobs: int = 1) -> dict[str, Any]:
    """Run and store.

    Imports and first calls are nobody's cost: the method runs on a toy first. Then the clock starts; afterwards the
    front's members are measured on the test split.

    Args:
        task: What to find a front of.
        method: How.
        seed: Of the search.
        budget: Candidates.
        results: Folder of the results.
        jobs: Runs side by side on this machine, to be told with the times.
    """
    torch.set_num_threads(1)
    setting = load_setting(task, seed=seed, cache=results / "data")
    recorder = Recorder(task)
    note, error = "", None
    with tempfile.TemporaryDirectory() as folder:
        with suppress(Exception):  # what fails on the toy will tell on the task
            method.run(toy_setting(task), Recorder(task), _made(Path(folder) / "toy"), 3)
        try:
            note = method.run(setting, recorder, _made(Path(folder) / "task"), budget)
        except Exception as raised:  # noqa: BLE001  the peer's error is the result
            error = f"{type(raised).__name__}: {' '.join(str(raised).split())[:600]}"
            if not recorder.points:
                note = traceback.format_exc(limit=-4)
        members = tested(setting, recorder, again=method.kind == "ours")
    stored = {
        "task": task.name,
        "method": method.name,
        "seed": seed,
        "budget": budget,
        "error": error,
        "note": note,
        "points": recorder.points,
        "members": members,
        "hypervolume": {
            "validation": (course(task, recorder.points) or [0.0])[-1],
            **{part: volume(task, [member[part] for member in members]) for part in ("search", "again", "test")},
        },
        "environment": environment() | {"jobs": str(jobs)},
    }
    write(result_file(results, task.name, method.name, seed), stored)
    return stored


def tested(setting: Setting, recorder: Recorder, *, again: bool) -> list[dict[str, Any]]:
    """Members of the front: the point, and the objectives as the search had them, again, and on the test split.

    Args:
        setting: The task.
        recorder: Of the run.
        again: Measure on the validation split again, for a search that need not have done so in float32 and by this
            very function.
    """
    measure, members = Measure(setting), []
    for index, network in recorder.members():
        known_as = recorder.points[index]["metrics"]
        repeated = measure(network) if again else known_as
        members.append({"point": index, "search": known_as, "again": repeated, "test": measure(network, "test")})
    return members


def volume(task: Task, measured: list[dict[str, float]]) -> float:
    """Hypervolume of measured networks."""
    points = [Point(seconds=0.0, images=0, evaluated=True, metrics=metrics, reason=None) for metrics in measured]
    return (course(task, points) or [0.0])[-1]


def environment() -> dict[str, str]:
    """What the run ran in."""
    cpu = [line.partition(": ")[2] for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {"cpu": f"{len(cpu)} × {cpu[0]}" if cpu else platform.machine(), "threads": str(torch.get_num_threads())} | (
        versions
    )


def write(file: Path, stored: dict[str, Any]) -> None:
    """Write a result, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".part")
    unfinished.write_text(json.dumps(stored, indent=1), encoding="utf-8")
    unfinished.replace(file)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _lines(path: str) -> list[str]:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8").splitlines()
    return []
