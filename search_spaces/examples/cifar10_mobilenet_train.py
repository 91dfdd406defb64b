"""Trains what the MobileNet example prunes, in less than twenty minutes on one CPU core that computes in bfloat16.

    AUTOPRUNE_DATA=/path/to/folder python search_spaces/examples/cifar10_mobilenet_train.py

writes cifar10_mobilenet.safetensors beside this file, or to the path given. The folder holds
data/cifar10/{train,test}.parquet; a relative one starts at this file's folder. The images that the search validates on
are held out of training as they are in cifar10_mobilenet.yaml; the test split is measured once, at the end.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from pathlib import Path

import torch
from cifar10_mobilenet import mobilenet
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from autoprune.plugin import Data, SourceContext, Split
from autoprune_sources.parquet import Parquet

HERE = Path(__file__).parent
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPOCHS = 15
BATCH_SIZE = 128
LEARNING_RATE = 0.3
WEIGHT_DECAY = 5e-4
PADDING = 4


def load_data() -> Data:
    """CIFAR-10 as the spec takes it, so that 5000 images of the training file stay unseen."""
    path = Path(os.environ.get("AUTOPRUNE_DATA", "../../../shared")) / "data/cifar10"
    return Parquet(path=path, validation=5000).load(SourceContext(folder=HERE, cache=HERE, seed=0))


def tensors(split: Split) -> tuple[Tensor, Tensor]:
    """All images of a split, normalised, (N, 3, 32, 32) with the channels last in memory, and their classes (N,)."""
    inputs, targets = split.fetch(torch.arange(len(split)))
    images = inputs.first
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return images.sub_(mean).div_(std).contiguous(memory_format=torch.channels_last), targets


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Every image mirrored or not, and moved by up to four pixels: (N, C, H, W) to the same."""
    count, _, height, width = images.shape
    padded = functional.pad(images, (PADDING,) * 4, mode="reflect").permute(0, 2, 3, 1)
    top, left = (torch.randint(2 * PADDING + 1, (count, 1), generator=generator) for _ in range(2))
    columns = torch.arange(width).expand(count, -1)
    columns = torch.where(torch.rand((count, 1), generator=generator) < 0.5, columns, columns.flip(1))
    rows = (top + torch.arange(height))[:, :, None]
    return padded[torch.arange(count)[:, None, None], rows, (left + columns)[:, None, :]].permute(0, 3, 1, 2)


def in_float32(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """The convolution outside of autocast."""
    with torch.autocast("cpu", enabled=False):
        return nn.Conv2d.forward(convolution, x.float())


def accuracy(network: nn.Module, images: Tensor, targets: Tensor) -> float:
    """Fraction of the images whose class the network finds."""
    network.eval()
    with torch.inference_mode():
        found = torch.cat([network(batch).argmax(1) for batch in images.split(500)])
    return (found == targets).float().mean().item()


def train(network: nn.Module, data: Data) -> None:
    """Train in place, in bfloat16 where autocast says so."""
    images, targets = tensors(data.train)
    validation = tensors(data.validation)
    strided = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups > 1 and m.stride != (1, 1)]
    for convolution in strided:  # torch 2.13: their bfloat16 gradient takes 40 times as long as float32
        convolution.forward = partial(in_float32, convolution)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=LEARNING_RATE, momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    steps = len(targets) // BATCH_SIZE
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=EPOCHS * steps, pct_start=0.25, cycle_momentum=False
    )
    for epoch in range(1, EPOCHS + 1):
        network.train()
        order = torch.randperm(len(targets), generator=generator)
        for index in order[: steps * BATCH_SIZE].split(BATCH_SIZE):
            with torch.autocast("cpu", torch.bfloat16):
                scores = network(augmented(images[index], generator))
            loss = functional.cross_entropy(scores.float(), targets[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch} of {EPOCHS}: validation accuracy {accuracy(network, *validation):.4f}", flush=True)
    for convolution in strided:
        del convolution.forward


def main() -> None:
    """Train the net and save it."""
    parser = argparse.ArgumentParser(description="Train a small MobileNet on CIFAR-10.")
    parser.add_argument("output", nargs="?", type=Path, help="the .safetensors file to write")
    output = parser.parse_args().output or HERE / "cifar10_mobilenet.safetensors"
    torch.manual_seed(0)
    start = time.monotonic()
    network, data = mobilenet().to(memory_format=torch.channels_last), load_data()
    train(network, data)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, output)
    reached = accuracy(network, *tensors(data.test))
    print(f"test accuracy {reached:.4f} after {(time.monotonic() - start) / 60:.1f} minutes; weights in {output}")


if __name__ == "__main__":
    main()
