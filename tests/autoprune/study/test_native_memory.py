"""What native code keeps, in processes of their own: oneDNN reads its bound when it makes the first kernel."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

_KERNELS = """
import os
import torch
from torch import nn
from autoprune.study.native_memory import bound_kernel_cache

bound_kernel_cache(nn.Sequential(*[nn.Conv2d(4, 4, 3) for _ in range(layers)]))
assert "ONEDNN_PRIMITIVE_CACHE_CAPACITY" not in os.environ
def run(size):
    torch.nn.functional.conv2d(torch.zeros(8, 16, size, size), torch.zeros(16, 16, 3, 3))
with torch.inference_mode():
    run(8)
    for size in range(9, 109):
        run(size)
    print("again", flush=True)
    run(8)
"""


_SHAPES = """
import autoprune
import torch
from torch import nn
from autoprune.study.native_memory import bound_kernel_cache, held

def run(inputs, outputs):
    nn.Conv2d(inputs, outputs, 3, padding=1)(torch.zeros(4, inputs, 8, 8))
with torch.inference_mode():
    bound_kernel_cache(nn.Conv2d(4, 4, 3))
    for n in range(100):
        run(1, 1 + n)
    before = held("VmRSS")
    for n in range(1500):
        run(1 + n % 53, 1 + 7 * n % 61)
print(held("VmRSS") - before)
"""


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


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch is built without oneDNN")  # type: ignore[no-untyped-call]
@pytest.mark.parametrize(("layers", "hit"), [(4, False), (400, True)])
def test_the_kernels_of_a_hundred_other_shapes_are_kept_for_deep_networks_alone(layers: int, hit: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ONEDNN_PRIMITIVE_CACHE_CAPACITY"}
    told = subprocess.run(
        [sys.executable, "-c", f"layers = {layers}\n{_KERNELS}"],
        env=environment | {"ONEDNN_VERBOSE": "profile"}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    made = [line for line in told.partition("again")[2].splitlines() if "create" in line and "convolution" in line]
    assert made, told
    assert all(("cache_hit" in line) == hit for line in made)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch is built without oneDNN")  # type: ignore[no-untyped-call]
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
def test_what_pytorch_prepares_for_layers_is_kept_for_a_few_shapes() -> None:
    def grown(**variables: str) -> int:
        environment = {name: value for name, value in os.environ.items() if name != "LRU_CACHE_CAPACITY"} | variables
        command = [sys.executable, "-c", _SHAPES]
        return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

    assert grown() < grown(LRU_CACHE_CAPACITY="1024") / 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_holes_go_back_to_the_system_where_they_are_a_large_part_of_what_is_held() -> None:
    told = subprocess.run([sys.executable, "-c", _HOLES], capture_output=True, text=True, check=True).stdout
    first, before, after, grown, left = map(int, told.split())
    assert before > 1.3 * first
    assert after < before - 0.3 * first, "half of what came is holes"
    assert grown > max(1.3 * first, after + 0.15 * first)
    assert left > grown - 0.05 * first, "much more is held than at first, but little more than is used"
