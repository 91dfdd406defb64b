"""Networks that benchmarks train themselves: once per machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from autoprune.study.resolution import cache_folder

N = TypeVar("N", bound=nn.Module)


def trained(name: str, make: Callable[[], N], train: Callable[[N], None]) -> N:
    """The trained network, from the cache if it is there.

    Args:
        name: Of its file in the cache.
        make: Builds it, untrained.
        train: Trains it in place; both under the seed 0, which the caller's generator does not feel.
    """
    file = cache_folder() / f"{name}.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make()
        if not file.exists():
            train(network)
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(f".{os.getpid()}")
            save_file(network.state_dict(), part)
            part.replace(file)
    network.load_state_dict(load_file(file))
    return network
