"""Counters of energy that hardware keeps: RAPL's of a CPU's package, NVML's of a GPU.

Both count what the whole package or board takes, whoever uses it: an idle machine is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune import TrialError

if TYPE_CHECKING:
    import torch

POWERCAP = Path("/sys/class/powercap")
"""Where Linux tells RAPL's counters, of Intel's and AMD's CPUs (Documentation/power/powercap)."""


def packages(folder: Path = POWERCAP) -> list[Path]:
    """The CPU packages that count energy; none where the hardware, or a virtual machine, tells nothing."""
    return sorted(zone for zone in folder.glob("intel-rapl:*") if zone.name.count(":") == 1)


def counter(device: torch.device, folder: Path = POWERCAP) -> Callable[[], float]:
    """What gives the joules that were taken since it was made.

    Args:
        device: A CPU, all packages together, or a CUDA device.
        folder: Of RAPL's counters.

    Raises:
        TrialError: There is no counter, or it may not be read.
    """
    return _of_board(device) if device.type == "cuda" else _of_packages(folder)


def _of_packages(folder: Path) -> Callable[[], float]:
    zones = packages(folder)
    if not zones:
        raise TrialError(f"energy: this machine's CPU tells no energy: there is no {folder}/intel-rapl:0")
    try:
        wraps = [int((zone / "max_energy_range_uj").read_text()) for zone in zones]
        last = [int((zone / "energy_uj").read_text()) for zone in zones]
    except PermissionError as error:
        raise TrialError(
            f"energy: {error.filename} may be read by root alone: have it made readable, chmod a+r {error.filename}"
        ) from error
    total = 0.0

    def joules() -> float:
        nonlocal total
        for place, (zone, wrap) in enumerate(zip(zones, wraps, strict=True)):
            now = int((zone / "energy_uj").read_text())
            total += ((now - last[place]) % (wrap + 1)) / 1e6  # it begins again at 0 beyond its range
            last[place] = now
        return total

    return joules


def _of_board(device: torch.device) -> Callable[[], float]:
    import torch

    try:
        import pynvml
    except ImportError as error:
        raise TrialError("energy: a GPU's counter is read by NVML: pip install 'autoprune[nvml]'") from error
    try:
        pynvml.nvmlInit()
        # CUDA's numbers hang on CUDA_VISIBLE_DEVICES, NVML's do not.
        board = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        first = pynvml.nvmlDeviceGetTotalEnergyConsumption(board)
    except pynvml.NVMLError as error:
        raise TrialError(f"energy: this GPU tells no energy: {error}") from error
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(board) - first) / 1e3
