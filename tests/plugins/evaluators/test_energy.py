"""Energy: counters of a folder that stands for the machine's, which mostly has none that may be read."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from autoprune import TrialError
from autoprune_evaluators import Energy, _joules
from autoprune_evaluators._joules import counter, packages

if TYPE_CHECKING:
    from conftest import Case

CPU = torch.device("cpu")


def zone(folder: Path, name: str, microjoules: int, most: int = 1_000_000_000) -> Path:
    """As Linux tells a package, or a part of one."""
    made = folder / name
    made.mkdir()
    (made / "energy_uj").write_text(f"{microjoules}\n")
    (made / "max_energy_range_uj").write_text(f"{most}\n")
    return made


def test_packages_are_added_up_and_their_parts_are_not(tmp_path: Path) -> None:
    first, second = zone(tmp_path, "intel-rapl:0", 100), zone(tmp_path, "intel-rapl:1", 5)
    core = zone(tmp_path, "intel-rapl:0:0", 100)
    assert packages(tmp_path) == [first, second]
    joules = counter(CPU, tmp_path)
    assert joules() == 0
    (first / "energy_uj").write_text("2000100\n")
    (second / "energy_uj").write_text("1000005\n")
    (core / "energy_uj").write_text("9000100\n")
    assert joules() == pytest.approx(3.0)
    assert joules() == pytest.approx(3.0)


def test_a_counter_that_begins_again_goes_on(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", 9_000_000, most=9_999_999)
    joules = counter(CPU, tmp_path)
    (package / "energy_uj").write_text("500000\n")
    assert joules() == pytest.approx(1.5)


def test_no_counter_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match="this machine's CPU tells no energy"):
        counter(CPU, tmp_path)


def test_a_counter_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone(tmp_path, "intel-rapl:0", 1)

    def read(path: Path) -> str:  # as for others than root, whom nothing stops
        if path.name == "energy_uj":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return "1"

    monkeypatch.setattr(Path, "read_text", read)
    with pytest.raises(TrialError, match=r"may be read by root alone: have it made readable, chmod a\+r"):
        counter(CPU, tmp_path)


def test_a_machine_without_counters_is_refused_before_the_search(monkeypatch: pytest.MonkeyPatch, digits: Case) -> None:
    monkeypatch.setattr(_joules, "packages", list)
    refused = Energy().refuses(digits.data)
    assert torch.cuda.is_available() or (refused is not None and "tells no energy" in refused)
    monkeypatch.setattr(_joules, "packages", lambda: [Path()])
    assert Energy().refuses(digits.data) is None


def test_energy_is_what_the_counter_counts_for_each_sample(monkeypatch: pytest.MonkeyPatch, digits: Case) -> None:
    # Ten watts, whatever runs: then energy is time, and the dense model takes what it takes itself.
    monkeypatch.setattr(_joules, "counter", lambda _: lambda: 10 * time.perf_counter())
    found = digits.measure(Energy(batch_size=8, stretch=0.01), of_dense=True)
    assert found["energy_mj"].value > 0
    assert found["energy_ratio"].low <= found["energy_ratio"].value <= found["energy_ratio"].high


def test_a_counter_that_stands_still_is_told(monkeypatch: pytest.MonkeyPatch, digits: Case) -> None:
    monkeypatch.setattr(_joules, "counter", lambda _: lambda: 1.0)
    with pytest.raises(TrialError, match="take a longer stretch"):
        digits.measure(Energy(batch_size=8, stretch=0.001))
