"""What native code keeps, in processes of their own: oneDNN reads its bound when it makes the first kernel."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kernels import growth, print_kernels  # type: ignore[import-not-found]

from tests.fresh import returned

_HOLES = """
import torch
from autoprune.study.native_memory import FreedMemory, held

freed = FreedMemory()
freed.give_back()
first = held("VmRSS")
pieces = [torch.ones(25_000) for _ in range(first // 100_000)]  # 100 kB: from the heap, not pages of their own
del pieces[::2]
before = held("VmRSS")
freed.give_back()
after = held("VmRSS")
more = [torch.ones(25_000) for _ in range(first // 400_000)]
del more[::2]
grown = held("VmRSS")
freed.give_back()
print(first, before, after, grown, held("VmRSS"))
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch is built without oneDNN")  # type: ignore[no-untyped-call]
@pytest.mark.parametrize(("layers", "hit"), [(4, False), (400, True)])
def test_the_kernels_of_a_hundred_other_shapes_are_kept_for_deep_networks_alone(
    layers: int, hit: bool, tmp_path: Path
) -> None:
    returned(print_kernels, layers, tmp_path / "told")
    told = (tmp_path / "told").read_text()
    made = [line for line in told.partition("again")[2].splitlines() if "create" in line and "convolution" in line]
    assert made, told
    assert all(("cache_hit" in line) == hit for line in made)


@pytest.mark.slow
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch is built without oneDNN")  # type: ignore[no-untyped-call]
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
def test_what_pytorch_prepares_for_layers_is_kept_for_a_few_shapes() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LRU_CACHE_CAPACITY"}
    command = [sys.executable, "-c", "from kernels import growth; print(growth())"]
    bounded = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert int(bounded) < returned(growth, "1024") / 2


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_holes_go_back_to_the_system_where_they_are_a_large_part_of_what_is_held() -> None:
    told = subprocess.run([sys.executable, "-c", _HOLES], capture_output=True, text=True, check=True).stdout
    first, before, after, grown, left = map(int, told.split())
    assert before > 1.3 * first
    assert after < before - 0.3 * first, "half of what came is holes"
    assert grown > max(1.3 * first, after + 0.15 * first)
    assert left > grown - 0.05 * first, "much more is held than at first, but little more than is used"
