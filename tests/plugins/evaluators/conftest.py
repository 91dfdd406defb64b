"""The real ResNet-20 on CIFAR-10, a small net on the digits, and contexts to measure them in."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad, relu

from autoprune.plugin import Costs, Data, EvaluationContext, Measured, Normalization, Split
from autoprune.plugin.contracts import Evaluator
from autoprune.study.predictor import Predictor
from autoprune_tasks.classification import Classification
from tests.benchmarks import robust_mnist

SHARED = Path(os.environ.get("AUTOPRUNE_DATA", Path(__file__).parents[3] / ".." / "shared"))


class Block(nn.Module):
    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.stride, self.extra = filters // channels, (filters - channels) // 2
        self.conv1 = nn.Conv2d(channels, filters, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra))
        return relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(x))))) + shortcut)


class ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16), Block(16, 16), Block(16, 16))
        self.layer2 = nn.Sequential(Block(16, 32), Block(32, 32), Block(32, 32))
        self.layer3 = nn.Sequential(Block(32, 64), Block(64, 64), Block(64, 64))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


SIDE = 300
"""Members of the net that leaks, and others."""


@dataclass(frozen=True)
class Case:
    """A trained model, its data, and a way to run an evaluator on them."""

    model: Predictor
    data: Data

    def context(self, **changes: object) -> EvaluationContext:
        fields: dict[str, object] = {
            "device": torch.device("cpu"),
            "seed": 1,
            "data": self.data,
            "task": Classification(),
            "split": "validation",
            "dense": self.model,
            "costs": Costs(params=1, macs=1, bytes=1, nonzero=1),
            "dense_costs": Costs(params=1, macs=1, bytes=1, nonzero=1),
        }
        return EvaluationContext(**(fields | changes))  # type: ignore[arg-type]

    def measure(self, evaluator: Evaluator, model: nn.Module | None = None, **changes: object) -> dict[str, Measured]:
        found = evaluator.evaluate(model or self.model, self.context(**changes))
        assert set(found) == {metric.name for metric in evaluator.declares(self.data)}
        return {name: value if isinstance(value, Measured) else Measured(value=value) for name, value in found.items()}

    def with_data(self, **changes: object) -> Case:
        return Case(self.model, replace(self.data, **changes))  # type: ignore[arg-type]


def as_data(images: Tensor, targets: Tensor, normalization: Normalization | None) -> Data:
    split = Split.of_tensors((images,), targets)
    return Data(split, split, split, classes=10, normalization=normalization, bounds=(0.0, 1.0))


@pytest.fixture(scope="session")
def cifar() -> Case:
    """ResNet-20 and the first 64 test images, in [0, 1]."""
    import pyarrow.parquet as pq
    from PIL import Image
    from safetensors.torch import load_file

    rows = next(pq.ParquetFile(SHARED / "data/cifar10/test.parquet").iter_batches(64)).to_pylist()
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(row["img"]["bytes"]))) for row in rows])
    network = ResNet20().eval()
    network.load_state_dict(load_file(SHARED / "models/resnet20_cifar10.safetensors"))
    normalization = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    targets = torch.tensor([row["label"] for row in rows])
    return Case(Predictor(network, normalization).eval(), as_data(images, targets, normalization))


@pytest.fixture(scope="session")
def digits() -> Case:
    """A small convolutional net trained on the spot, and 400 digits it has not seen, in [0, 1]."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images = torch.tensor(loaded.images / 16, dtype=torch.float32).unsqueeze(1)
    targets = torch.tensor(loaded.target)
    normalization = Normalization((0.3,), (0.375,))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10),
        )  # fmt: skip
        model = Predictor(network, normalization)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(15):
            for batch in torch.randperm(1397).split(128):
                optimizer.zero_grad()
                cross_entropy(model(images[batch]), targets[batch]).backward()
                optimizer.step()
    for parameter in model.parameters():
        parameter.grad = None
    return Case(model.eval(), as_data(images[1397:], targets[1397:], normalization))


@pytest.fixture(scope="session")
def robust() -> Case:
    """A small net that was trained adversarially, and the first 200 test images of MNIST, in [0, 1]."""
    inputs, targets = robust_mnist.data().test.fetch(torch.arange(200))
    normalization = robust_mnist.NORMALIZATION
    return Case(Predictor(robust_mnist.robust(), normalization).eval(), as_data(inputs.first, targets, normalization))


@pytest.fixture(params=["digits", "cifar"])
def case(request: pytest.FixtureRequest) -> Case:
    """Both models, one after the other."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def leaking() -> tuple[nn.Module, Data]:
    """A net that knows its training samples by heart, some of which have wrong labels."""
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))[: 2 * SIDE]
    inputs, targets = torch.tensor(images[order] / 16, dtype=torch.float32), torch.tensor(classes[order])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wrong = torch.rand(len(targets)) < 0.3
        targets = torch.where(wrong, torch.randint(10, targets.shape), targets)
        net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
        for _ in range(120):
            optimizer.zero_grad()
            cross_entropy(net(inputs[:SIDE]), targets[:SIDE]).backward()
            optimizer.step()
    held = Split.of_tensors(inputs[SIDE:], targets[SIDE:])
    return net.eval(), Data(Split.of_tensors(inputs[:SIDE], targets[:SIDE]), held, held, classes=10)
