"""A multilayer perceptron on MNIST that is wider than it needs to be: its layers are far from their full rank."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprune.host.binding import bind, load_spec
from autoprune.host.plugins import PluginHost
from autoprune.plugin import SourceContext
from autoprune.study.predictor import Predictor
from autoprune.study.resolution import cache_folder
from tests.benchmarks.trained import trained

_WIDTH, _CLASSES, _PIXELS = 512, 10, 784
_EPOCHS, _BATCH, _RATE = 4, 128, 0.002


class WideMlp(nn.Module):
    """784, 512, 512 and 10 neurons: two groups, 0.67 million weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(_PIXELS, _WIDTH)
        self.second = nn.Linear(_WIDTH, _WIDTH)
        self.last = nn.Linear(_WIDTH, _CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) to (N, 10)."""
        return self.last(functional.relu(self.second(functional.relu(self.first(x.flatten(1))))))


def wide_mlp() -> WideMlp:
    """The trained net."""
    return trained("benchmarks-wide-mlp", WideMlp, _train)


def _train(network: WideMlp) -> None:
    spec = load_spec(Path(__file__).with_suffix(".yaml"))
    context = SourceContext(folder=spec.document.folder, cache=cache_folder(), seed=0)
    data = bind(spec, PluginHost()).data.load(context)
    inputs, targets = data.train.fetch(torch.arange(len(data.train)))
    images = Predictor(network, data.normalization).normalized(inputs).first
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_EPOCHS * -(-len(targets) // _BATCH))
    network.train()
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(targets)).split(_BATCH):
            loss = functional.cross_entropy(network(images[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
