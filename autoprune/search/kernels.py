"""What PyTorch keeps of networks that are gone: the compiled kernels of their shapes."""

from __future__ import annotations

import os

from torch import nn

_CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
_DEFAULT = 1024
_LEAST = 64
_PER_LAYER = 8


def bound_kernel_cache(network: nn.Module) -> None:
    """Have oneDNN keep the kernels of a few networks like this one, not of the latest 1024 shapes.

    On the CPU a convolution's kernel is compiled for its shape and kept for the next call. Every candidate has shapes
    of its own, so a search would go on growing by the kernels of candidates that nobody needs any more. Two networks
    are in use at a time, the dense one and a candidate (latency is measured in turn), and a layer takes up to four
    kernels: reordering its input and its weight, the layer itself, and its gradient in an attack.

    oneDNN reads the variable when it makes its first kernel: a process that has run a convolution before keeps what
    it has, and so does one whose user set the variable.

    Args:
        network: The dense network.
    """
    layers = sum(1 for module in network.modules() if not any(module.children()))
    os.environ.setdefault(_CAPACITY, str(min(max(_LEAST, _PER_LAYER * layers), _DEFAULT)))
