"""Data and models that take milliseconds, for the tests of this folder."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprune.plugin import Data, DataSource, ModelSource, SourceContext, Split

_FEATURES, _CLASSES, _WORDS, _LENGTH = 8, 3, 10, 6
_SIZES = {"train": 64, "validation": 32, "test": 32}


class TinyData(DataSource):
    """What a random linear teacher says of noise; or random tokens, whose targets are the next ones."""

    name = "tiny-data"

    targets: Literal["classes", "numbers", "multi-hot", "tokens"] = "classes"
    named: bool = False
    """Inputs come by keyword, in halves."""
    stray: int | None = None
    """Sample of each split whose target is one class too many."""

    def load(self, ctx: SourceContext) -> Data:
        generator = torch.Generator().manual_seed(3)
        teacher = torch.randn(_FEATURES, _CLASSES, generator=generator)

        def split(count: int) -> Split:
            if self.targets == "tokens":
                text = torch.randint(_WORDS, (count, _LENGTH + 1), generator=generator)
                return Split.of_tensors(text[:, :-1], text[:, 1:])
            inputs = torch.rand(count, _FEATURES, generator=generator)
            targets = self._targets(inputs @ teacher)
            if self.stray is not None:
                targets[self.stray] = _CLASSES
            given: Any = {"left": inputs[:, :4], "right": inputs[:, 4:]} if self.named else inputs
            return Split.of_tensors(given, targets)

        counted = _CLASSES if self.targets == "classes" and self.stray is None else None
        return Data(**{name: split(size) for name, size in _SIZES.items()}, classes=counted)

    def _targets(self, said: Tensor) -> Tensor:
        if self.targets == "numbers":
            return said[:, :1] / said[:, :1].std()
        if self.targets == "multi-hot":
            return (said > said.mean(0)).float()
        return said.argmax(1)


class TinyNet(ModelSource):
    """Features to 16 to 12 to the outputs, or tokens to the scores of the next ones; initialised, not trained."""

    name = "tiny-net"

    outputs: int = _CLASSES
    reads: Literal["positional", "named", "tokens", "tokens, time last"] = "positional"

    def build(self, ctx: SourceContext) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            if self.reads.startswith("tokens"):
                return Words(time_last=self.reads != "tokens")
            return (Halves if self.reads == "named" else Features)(self.outputs)

    def load(self, data: Data, ctx: SourceContext) -> nn.Module:
        return self.build(ctx)


class Features(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(_FEATURES, 16), nn.Linear(16, 12)
        self.head = nn.Linear(12, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))))


class Halves(Features):
    """Takes its inputs by keyword."""

    def forward(self, *, left: Tensor, right: Tensor) -> Tensor:
        return super().forward(torch.cat([left, right], 1))


class Words(nn.Module):
    """Tokens (N, T) to scores (N, T, V), or (N, V, T)."""

    def __init__(self, *, time_last: bool) -> None:
        super().__init__()
        self.embedding, self.hidden, self.head = nn.Embedding(_WORDS, 8), nn.Linear(8, 16), nn.Linear(16, _WORDS)
        self.time_last = time_last

    def forward(self, tokens: Tensor) -> Tensor:
        scores = self.head(torch.relu(self.hidden(self.embedding(tokens))))
        return scores.transpose(1, 2) if self.time_last else scores


class TinyCnn(ModelSource):
    """Two convolutions with batch norms and two linear layers for the digits, a little trained."""

    name = "tiny-cnn"

    def build(self, ctx: SourceContext) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            return Cnn()

    def load(self, data: Data, ctx: SourceContext) -> nn.Module:
        network = self.build(ctx).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.02)
        with torch.enable_grad():
            for _ in range(4):
                for inputs, targets in data.train.batches(64):
                    loss = functional.cross_entropy(network(inputs.first), targets)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
        optimizer.zero_grad()
        return network.eval()


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(12)
        self.wide, self.head = nn.Linear(48, 24), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))
        return self.head(torch.relu(self.wide(functional.avg_pool2d(x, 2).flatten(1))))
