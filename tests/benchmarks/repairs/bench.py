"""What every method gets: a dense network, its groups ranked, calibration samples in an order, and how right it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from autoprune import load_spec
from autoprune.host.binding import bind
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Data, PruneContext, Pruned, Scorer, SourceContext, Split
from autoprune.study.resolution import cache_folder
from autoprune.testing import Bench

ROOT = Path(__file__).parents[3]
SPEC = ROOT / "search_spaces" / "examples" / "cifar10_resnet20.yaml"
MODELS = Path(os.environ.get("AUTOPRUNE_DATA", ROOT.parent / "shared")).resolve() / "models"
NETWORKS = {"resnet20": "ResNet-20", "resnet56": "ResNet-56"}
"""On CIFAR-10, of He et al., arXiv:1512.03385."""
SCORERS = {"l1": "{use: l1}", "l2": "{use: l2, weights: fan-out}"}
LEVELS = (0.56, 0.35, 0.25)
"""Shares of the multiply-accumulates that are left, as near as one ratio for all groups gets."""
CALIBRATION = 1024
"""Train samples for repairs that say nothing else; BALF's usual number."""
_BATCH = 500


@dataclass(frozen=True)
class Cut:
    """One ratio for all groups."""

    level: float
    ratio: float
    macs: float
    """What is left, relative to the dense network."""
    kept: Mapping[str, Tensor]


class Setting:
    """A network and a scorer."""

    def __init__(self, network: str, scorer: str) -> None:
        """Load model and data, find the groups, rank their units."""
        host = PluginHost()
        weights = MODELS / f"{network}_cifar10.safetensors"
        spec = load_spec(
            SPEC,
            host=host,
            overrides=[
                f"model.target=cifar_resnet:{network}",
                f"model.weights={weights}",
                f"scorer={SCORERS[scorer]}",
                "search_space={ratio: {low: 0.0, high: 0.8}}",
            ],
        )
        components = bind(spec, host)
        source = SourceContext(folder=SPEC.parent, cache=cache_folder(), seed=0)
        data = components.data.load(source)
        self.bench = Bench(components.model.load(data, source), data)
        ranking: Scorer = components.scorers[0].component
        self.scores = self.bench.score(ranking)

    def cut(self, level: float) -> Cut:
        """The uniform ratio, in hundredths, whose multiply-accumulates come nearest."""
        structure = self.bench.structure
        macs = {
            ratio: structure.costs(self.bench.uniform(ratio)).macs / structure.dense_costs.macs
            for ratio in (hundredths / 100 for hundredths in range(1, 81))
        }
        ratio = min(macs, key=lambda ratio: abs(macs[ratio] - level))
        return Cut(level, ratio, macs[ratio], structure.select(self.scores, self.bench.uniform(ratio)))

    def pruned(self, cut: Cut) -> Pruned:
        """The network without those units, as it was cut."""
        return Pruned(self.bench.structure.cut(self.bench.network, cut.kept).eval(), cut.kept)

    def context(self, seed: int) -> PruneContext:
        """What a recovery gets; its first train samples, and those that it draws, are the seed's."""
        ctx = self.bench.prune_context(seed=seed)
        return replace(ctx, data=shuffled(ctx.data, seed), cache={})

    @cached_property
    def _test(self) -> tuple[tuple[Tensor, Tensor], ...]:
        return tuple((inputs.first, targets) for inputs, targets in self.bench.data.test.batches(_BATCH))

    def accuracy(self, network: nn.Module) -> float:
        """On all test samples."""
        predictor = self.bench.predictor(network.eval())
        with torch.inference_mode():
            right = sum(int((predictor(x).argmax(1) == targets).sum()) for x, targets in self._test)
        return right / len(self.bench.data.test)


def shuffled(data: Data, seed: int) -> Data:
    """The same data with its train samples in another order."""
    train = data.train
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(1000 + seed))
    return replace(data, train=Split(length=len(train), read=lambda index: train.read(order[index])))


def calibrating(network: nn.Module, ctx: PruneContext) -> Callable[[], None]:
    """Runs a network on the calibration samples."""
    predictor = ctx.predictor(network)

    def run() -> None:
        for inputs, _ in ctx.data.train.batches(128, samples=CALIBRATION, device=ctx.device):
            inputs.feed(predictor)

    return run
