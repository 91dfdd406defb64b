"""The net behind `digits-cnn`, its training and its cache."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from autoprune.plugin import Data, Normalization

INPUT_SHAPE = (1, 8, 8)
CLASSES = 10
_BATCH = 64
_RATE = 0.005
_WEIGHT_DECAY = 0.05
_NOISE = 0.1
"""Standard deviation, in input units. Without it a tenth of the pixels' range breaks nine of ten predictions."""

log = logging.getLogger("autoprune")


class _Residual(nn.Module):
    """Two convolutions beside an identity: ties what it reads to what it writes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + x)


class DigitsNet(nn.Module):
    """Two residual stages, 8x8 and 4x4, and a hidden layer: five groups of channels, about 37,000 parameters."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.block1 = _Residual(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.block2 = _Residual(2 * width)
        self.hidden = nn.Linear(2 * width * 4, 4 * width)
        self.linear = nn.Linear(4 * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 8, 8) to (N, 10)."""
        x = self.block1(functional.relu(self.bn1(self.conv1(x))))
        x = self.block2(functional.relu(self.bn2(self.conv2(x))))
        x = functional.max_pool2d(x, 2).flatten(1)
        return self.linear(functional.relu(self.hidden(x)))  # type: ignore[no-any-return]


def new_network(width: int, *, seed: int) -> DigitsNet:
    """The net with random weights of that seed; the global generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DigitsNet(width)


def trained(width: int, data: Data, *, epochs: int, seed: int) -> DigitsNet:
    """A net trained with AdamW on a one-cycle schedule, on images with Gaussian noise; in ``eval()``.

    Runs on one thread: batches are so small that more threads only wait for each other, and the result then does not
    depend on how many there are.
    """
    network = new_network(width, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_WEIGHT_DECAY)
    steps = epochs * -(-len(data.train) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=_RATE, total_steps=steps)
    network.train()
    with _one_thread(), torch.enable_grad():
        for _ in range(epochs):
            for inputs, targets in data.train.batches(_BATCH, generator=generator):
                images = inputs.first
                noise = _NOISE * torch.randn(images.shape, generator=generator)
                logits = network(_normalised(images + noise, data.normalization))
                loss = functional.cross_entropy(logits, targets)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    return network.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _normalised(images: Tensor, normalization: Normalization | None) -> Tensor:
    if normalization is None:
        return images
    return (images - normalization.mean[0]) / normalization.std[0]


def cached(folder: Path, width: int, data: Data, *, epochs: int, seed: int) -> DigitsNet:
    """The trained net: from the cache if it is there and whole, or trained now and put there.

    The file's name holds a hash of everything that the weights depend on, this module's text included.
    """
    inputs, targets = data.train.fetch(torch.arange(len(data.train)))
    options = [width, epochs, seed, torch.__version__, repr(data.normalization)]
    key = hashlib.sha256(json.dumps(options).encode())
    for content in (Path(__file__).read_bytes(), inputs.first.numpy().tobytes(), targets.numpy().tobytes()):
        key.update(content)
    file = folder / f"digits-cnn-{key.hexdigest()[:16]}.safetensors"
    network = new_network(width, seed=seed)
    with suppress(OSError, SafetensorError, RuntimeError):  # none there, or damaged: train again
        network.load_state_dict(load_file(file))
        return network.eval()
    network = trained(width, data, epochs=epochs, seed=seed)
    try:
        _keep(network, file)
    except OSError as error:
        log.warning("the trained digits-cnn cannot be kept in %s: %s", folder, error)
    return network


def _keep(network: nn.Module, file: Path) -> None:
    """Write a file of another name first: a reader never sees half of it, and two writers do not meet."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".digits-cnn-") as folder:
        part = Path(folder) / file.name
        save_file(network.state_dict(), part)
        part.replace(file)
