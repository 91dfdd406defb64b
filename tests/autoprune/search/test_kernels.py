"""The kernels that PyTorch keeps, in a process of its own: oneDNN reads how many when it makes the first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

_PROGRAM = """
import torch
from torch import nn
from autoprune.search.kernels import bound_kernel_cache

bound_kernel_cache(nn.Sequential(*[nn.Conv2d(4, 4, 3) for _ in range(layers)]))
def run(size):
    torch.nn.functional.conv2d(torch.zeros(8, 16, size, size), torch.zeros(16, 16, 3, 3))
with torch.inference_mode():
    run(8)
    for size in range(9, 109):
        run(size)
    print("again", flush=True)
    run(8)
"""


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch is built without oneDNN")  # type: ignore[no-untyped-call]
@pytest.mark.parametrize(("layers", "hit"), [(4, False), (400, True)])
def test_the_kernels_of_a_hundred_other_shapes_are_kept_for_deep_networks_alone(layers: int, hit: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ONEDNN_PRIMITIVE_CACHE_CAPACITY"}
    told = subprocess.run(
        [sys.executable, "-c", f"layers = {layers}\n{_PROGRAM}"],
        env=environment | {"ONEDNN_VERBOSE": "profile"}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    made = [line for line in told.partition("again")[2].splitlines() if "create" in line and "convolution" in line]
    assert made, told
    assert all(("cache_hit" in line) == hit for line in made)
