"""Which digits are in a picture of two that overlap: the pictures, a net, and its training.

    AUTOPRUNE_DATA=/path/to/folder python search_spaces/examples/mnist_multilabel.py

writes both to made/mnist_multilabel beside this file, in less than a minute. The folder holds
data/mnist/{train,test}.parquet; a relative one starts at this file's folder.
"""

from __future__ import annotations

import numpy as np
import torch
from digit_pairs import SAMPLES, pairs
from making import made, train
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot, pad

SHIFT = 8
"""Columns from the left digit to the right one."""


def pictures(split: str) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 14, 22) in [0, 1], and whether each of the ten digits is there, (N, 10) int64."""
    (left, right), digits = pairs(split)
    there = one_hot(digits, 10).amax(0)
    return torch.maximum(pad(left, (0, SHIFT)), pad(right, (SHIFT, 0))), there


def net(width: int = 16, digits: int = 10) -> nn.Sequential:
    """(N, 1, 14, 22) to (N, digits): three convolutions and a hidden layer."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *block(1, width),
        *block(width, 2 * width),
        *block(2 * width, 4 * width),
        nn.Flatten(),
        nn.Linear(4 * width * 2 * 3, 4 * width),
        nn.ReLU(),
        nn.Linear(4 * width, digits),
    )


def main() -> None:
    """Compose the pictures, train the net on them, and save both."""
    torch.manual_seed(0)
    parts, network, folder = {split: pictures(split) for split in SAMPLES}, net(), made("mnist_multilabel")
    inputs, targets = parts["train"]
    train(
        network,
        len(inputs),
        lambda i: binary_cross_entropy_with_logits(network(inputs[i]), targets[i].float()),
        epochs=4,
        batch_size=128,
        lr=1e-2,
    )
    save_file(network.state_dict(), folder / "net.safetensors")
    arrays = {}
    for split, (inputs, targets) in parts.items():
        arrays |= {f"x_{split}": (inputs * 255).round().byte().numpy(), f"y_{split}": targets.numpy()}
    np.savez_compressed(folder / "pictures.npz", **arrays)
    inputs, targets = parts["test"]
    with torch.inference_mode():
        right = (network(inputs) > 0).long() == targets
    print(f"of the test pictures, all ten right: {right.all(1).float().mean():.3f}")


if __name__ == "__main__":
    main()
