"""What the scripts share that make the examples' models: where files are, real digits, a training.

Data is read from ``AUTOPRUNE_DATA``, and what is made goes to a folder of the example's name in ``AUTOPRUNE_MADE``
(``made`` beside this file if left out); relative ones start at this file's folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from autoprune.plugin import Data, SourceContext
from autoprune_sources.parquet import Parquet

HERE = Path(__file__).parent
DATA = HERE / os.environ.get("AUTOPRUNE_DATA", "../../../shared") / "data"


def made(example: str) -> Path:
    """The folder for what an example needs, there from now on."""
    folder = HERE / os.environ.get("AUTOPRUNE_MADE", "made") / example
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def images(name: str) -> Data:
    """MNIST or CIFAR-10, with 5000 of the training images to validate on: (N, C, H, W) in [0, 1]."""
    return Parquet(path=DATA / name, validation=5000).load(SourceContext(folder=HERE, cache=HERE, seed=0))


def train(
    network: nn.Module,
    samples: int,
    loss: Callable[[Tensor], Tensor],
    *,
    epochs: int,
    batch_size: int = 64,
    lr: float = 2e-3,
    weight_decay: float = 0.01,
) -> None:
    """Train in place by AdamW, the rate up and down in one cycle; the network is in ``eval()`` afterwards.

    Args:
        network: To be trained.
        samples: How many there are.
        loss: Mean loss of the samples of these indices, (B,).
        epochs: Passes over the samples.
        batch_size: Samples of a step.
        lr: Largest learning rate.
        weight_decay: Decay of the weights.
    """
    torch.set_num_threads(1)  # so small are the nets that threads would wait for each other
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    steps = epochs * (samples // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    network.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for index in torch.randperm(samples, generator=generator)[: samples - samples % batch_size].split(batch_size):
            value = loss(index)
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += value.item() * batch_size / samples
        if epoch % -(-epochs // 10) == 0:
            print(f"epoch {epoch} of {epochs}: mean loss {total:.4f}", flush=True)
    network.eval()
