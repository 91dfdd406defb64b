"""Where and with what a study ran: recorded, so that a number can be traced back."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

import torch

from autoprune.host.binding import spec_hash
from autoprune.spec import Spec

_DISTRIBUTIONS = ("autoprune", "torch", "optuna", "mlflow")


def environment(spec: Spec, device: torch.device) -> dict[str, str]:
    """Versions, device, seed and spec hash, all as text."""
    facts = {name: version for name in _DISTRIBUTIONS if (version := _version(name)) is not None}
    facts |= {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(device),
        "cpu": _processor(),
        "threads": str(torch.get_num_threads()),
        "workers": str(spec.search.workers),
        "seed": str(spec.search.seed),
        "spec_hash": spec_hash(spec),
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


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
