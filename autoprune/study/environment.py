"""Where and with what a study ran: recorded, so that a number can be traced back."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import subprocess
from pathlib import Path

import torch

from autoprune.host.binding import spec_hash
from autoprune.spec import Spec

_DISTRIBUTIONS = ("autoprune", "torch", "optuna", "mlflow")


def environment(spec: Spec, device: torch.device) -> dict[str, str]:
    """Versions, machine, device, seed, spec hash and the git commit of the spec's folder, all as text."""
    facts = {name: version for name in _DISTRIBUTIONS if (version := _version(name)) is not None}
    facts |= {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "device": str(device),
        "cpu": _processor(),
        "threads": str(torch.get_num_threads()),
        "workers": str(spec.search.workers),
        "seed": str(spec.search.seed),
        "spec_hash": spec_hash(spec),
    }
    if memory := _memory():
        facts["memory"] = memory
    if device.type == "cuda":
        names = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
        facts |= {"gpu": torch.cuda.get_device_name(device), "gpus": ", ".join(names)}
    return facts | _commit(spec.document.folder)


def _memory() -> str:
    """All that the machine has."""
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    except (AttributeError, ValueError, OSError):  # another operating system
        return ""


def _commit(folder: Path) -> dict[str, str]:
    """The commit of a folder's repository and whether files differ from it; nothing where git knows none."""

    def said(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603

    try:
        commit, changes = said("rev-parse", "HEAD"), said("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"git_commit": commit, "git_dirty": "true" if changes else "false"}


def _version(distribution: str) -> str | None:
    """None where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
