"""A small network that is hard to attack: ``python -m tests.benchmarks.robust_mnist`` trains it on MNIST.

Adversarially, as Madry et al., arXiv:1706.06083: each step is taken on inputs that PGD, 7 steps, moved by up to 0.15.
The weights are kept beside this file, for tests and benchmarks that ask what attacks say of such a model, and what
pruning does to it. A few minutes on one core.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from autoprune.plugin import Data, Normalization, SourceContext
from autoprune_sources.parquet import Parquet

WEIGHTS = Path(__file__).with_suffix(".safetensors")
DATA = Path(os.environ.get("AUTOPRUNE_DATA", Path(__file__).parents[2] / ".." / "shared")).resolve() / "data/mnist"
EPSILON, STEPS = 0.15, 7
NORMALIZATION = Normalization((0.1307,), (0.3081,))


def network() -> nn.Sequential:
    """Four layers, untrained: takes normalised images (N, 1, 28, 28) and returns logits (N, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def robust() -> nn.Sequential:
    """The trained one, in ``eval()``."""
    made = network()
    made.load_state_dict(load_file(WEIGHTS))
    return made.eval()


def data() -> Data:
    """MNIST, of which 5,000 training images are held out; these and the test images the network never saw."""
    scale = {"mean": NORMALIZATION.mean, "std": NORMALIZATION.std}
    source = Parquet.model_validate({"path": DATA, "normalize": scale, "validation": 5000})
    return source.load(SourceContext(folder=DATA, cache=DATA, seed=0))


def attacked(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Images in [0, 1], moved uphill on the loss within EPSILON."""
    moved = (images + EPSILON * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
    for _ in range(STEPS):
        moved.requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(model(moved), targets), moved)
        step = moved.detach() + 2.5 * EPSILON / STEPS * gradient.sign()
        moved = (images + (step - images).clamp(-EPSILON, EPSILON)).clamp(0, 1)
    return moved.detach()


def main(epochs: int = 6) -> None:
    """Train and write the weights."""
    torch.manual_seed(0)
    made = network()
    mean, std = NORMALIZATION.mean[0], NORMALIZATION.std[0]
    predict = nn.Sequential(_Normalized(mean, std), made)
    train = data().train
    optimizer = torch.optim.Adam(made.parameters(), lr=2e-3)
    steps = epochs * len(train) // 128
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    batches = (batch for _ in range(epochs + 1) for batch in train.batches(128, generator=torch.Generator()))
    for step, (inputs, targets) in enumerate(itertools.islice(batches, steps)):
        images = attacked(predict, inputs.first, targets)
        loss = cross_entropy(predict(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            print(f"step {step} of {steps}: loss {float(loss.detach()):.3f}", flush=True)
    save_file(made.state_dict(), WEIGHTS)


class _Normalized(nn.Module):
    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


if __name__ == "__main__":
    main()
