"""Random numbers: every one of them hangs on the spec's seed and on what it is used for, never on what ran before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *stream: int) -> int:
    """A 32-bit seed for one use, such as one trial or one of its parameters."""
    return int(np.random.SeedSequence((seed, *stream)).generate_state(1)[0])


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed Python, NumPy and torch, and give their generators back as they were.

    cuDNN is held to deterministic algorithms meanwhile. On the CPU, sums still depend on the number of threads.
    """
    python, numpy, cudnn = random.getstate(), np.random.get_state(), torch.backends.cudnn
    algorithms = cudnn.deterministic, cudnn.benchmark
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        random.seed(seed)
        np.random.seed(seed)
        # Not torch.manual_seed, which takes a millisecond to leave notes for devices that nobody has asked for.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        cudnn.deterministic, cudnn.benchmark = True, False
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            cudnn.deterministic, cudnn.benchmark = algorithms
