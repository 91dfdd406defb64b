"""A single-file plugin for tests: a model source, and a transform that makes two thin layers of one."""

from __future__ import annotations

import torch
from torch import nn

from autoprune.plugin import Data, ModelSource, SourceContext, Transform


class Wide(ModelSource):
    name = "wide-net"

    def build(self, ctx: SourceContext) -> nn.Module:
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, 24), nn.ReLU(), nn.Linear(24, 4)).eval()

    def load(self, data: Data, ctx: SourceContext) -> nn.Module:
        return self.build(ctx)


class Thin(Transform):
    """Truncated singular value decomposition of the layers that are chosen; the choice is the rank."""

    name = "thin"
    bias: bool = True

    def apply(self, network, choice, ctx):
        return self._replaced(network, choice, exact=True)

    def rebuild(self, network, choice):
        return self._replaced(network, choice, exact=False)

    def costs(self, layers, choice):
        return {}

    def _replaced(self, network, choice, *, exact):
        for name, rank in choice.items():
            layer = network.get_submodule(name)
            first = nn.Linear(layer.in_features, int(rank), bias=False)
            second = nn.Linear(int(rank), layer.out_features, bias=self.bias)
            if exact:
                left, values, right = torch.linalg.svd(layer.weight.detach(), full_matrices=False)
                first.weight.data = (values[: int(rank), None] * right[: int(rank)]).contiguous()
                second.weight.data = left[:, : int(rank)].contiguous()
                if self.bias:
                    second.bias.data = layer.bias.data.clone()
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, nn.Sequential(first, second))
        return network
