"""Two digits, each in a picture of its own: which is the larger one, and what is their sum? Data, a net, its training.

    AUTOPRUNE_DATA=/path/to/folder python search_spaces/examples/mnist_two_heads.py

writes data and net to made/mnist_two_heads beside this file, in less than a minute. The folder holds
data/mnist/{train,test}.parquet; a relative one starts at this file's folder.
"""

from __future__ import annotations

import numpy as np
import torch
from digit_pairs import SAMPLES, pairs
from making import made, train
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss


class TwoHeads(nn.Module):
    """A net for each picture, a layer for both, and a head for each question."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.left, self.right = (
            nn.Sequential(nn.Flatten(), nn.Linear(196, width), nn.ReLU(), nn.Linear(width, width // 2), nn.ReLU())
            for _ in range(2)
        )
        self.both = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width // 2), nn.ReLU())
        self.larger = nn.Linear(width // 2, 3)
        self.sum = nn.Linear(width // 2, 1)

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        """Two pictures, (N, 1, 14, 14), to ``larger``, (N, 3): left, none, right; and ``sum``, (N, 1)."""
        both = self.both(torch.cat([self.left(left), self.right(right)], 1))
        return {"larger": self.larger(both), "sum": self.sum(both)}


def questions(split: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Left and right pictures, (N, 1, 14, 14) in [0, 1], which digit is larger, (N,) int64, and their sum, (N, 1).

    The sum is in units of ten, less one: of the size of 1, so that it weighs about as much as the class.
    """
    (left, right), digits = pairs(split)
    larger = (digits[1] - digits[0]).sign() + 1
    return left, right, larger, digits.sum(0).unsqueeze(1) / 10 - 0.9


def main() -> None:
    """Pair the digits, train the net on them, and save both."""
    torch.manual_seed(0)
    parts, network, folder = {split: questions(split) for split in SAMPLES}, TwoHeads(), made("mnist_two_heads")
    left, right, larger, total = parts["train"]

    def loss(i: Tensor) -> Tensor:
        said = network(left[i], right[i])
        return cross_entropy(said["larger"], larger[i]) + mse_loss(said["sum"], total[i])

    train(network, len(left), loss, epochs=7, batch_size=128, lr=5e-3)
    save_file(network.state_dict(), folder / "net.safetensors")
    arrays = {}
    for split, (left, right, larger, total) in parts.items():
        pictures = {name: (each * 255).round().byte().numpy() for name, each in (("left", left), ("right", right))}
        named = {**pictures, "larger": larger.numpy(), "sum": total.numpy()}
        arrays |= {f"{name}_{split}": array for name, array in named.items()}
    np.savez_compressed(folder / "pairs.npz", **arrays)
    left, right, larger, total = parts["test"]
    with torch.inference_mode():
        said = network(left, right)
    found = (said["larger"].argmax(1) == larger).float().mean()
    print(
        f"of the test pairs, the larger is found in {found:.3f}; sums are off by {(said['sum'] - total).std() * 10:.2f}"
    )


if __name__ == "__main__":
    main()
