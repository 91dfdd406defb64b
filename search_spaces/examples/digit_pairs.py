"""Pairs of handwritten digits, from MNIST: what three of the examples are made of."""

from __future__ import annotations

import torch
from making import images
from torch import Tensor
from torch.nn.functional import avg_pool2d

SAMPLES = {"train": 6000, "validation": 1000, "test": 1000}


def pairs(split: str) -> tuple[Tensor, Tensor]:
    """Digits of MNIST's split, two by two, none of them twice.

    Returns:
        Images, (2, N, 1, 14, 14) in [0, 1], half as large as MNIST's, and the digits that they show, (2, N).
    """
    count = SAMPLES[split]
    inputs, digits = images("mnist").split(split).fetch(torch.arange(2 * count))
    return avg_pool2d(inputs.first, 2).unflatten(0, (2, count)), digits.unflatten(0, (2, count))
