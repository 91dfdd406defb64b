"""Dynamic int8: weights quantised per row, activations per sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from autoprune.plugin import Choices, Costs, LayerCosts, Transform, TransformContext

_LARGEST = 127


class Int8(Transform):
    """Keeps the weights of linear layers in int8."""

    name = "int8"

    layers: tuple[str, ...]

    def apply(self, network: nn.Module, choice: Choices, ctx: TransformContext) -> nn.Module:
        for name in self.layers:
            _put(network, name, Int8Linear.of(network.get_submodule(name)))  # type: ignore[arg-type]
        return network

    def rebuild(self, network: nn.Module, choice: Choices) -> nn.Module:
        for name in self.layers:
            weight: Tensor = network.get_submodule(name).weight  # type: ignore[assignment]
            _put(network, name, Int8Linear(*weight.shape))
        return network

    def costs(self, layers: Mapping[str, LayerCosts], choice: Choices) -> Mapping[str, LayerCosts]:
        return {name: _quantised(layers[name]) for name in self.layers}


class Int8Linear(nn.Module):
    """A linear layer with weights in int8, each row with a scale of its own."""

    weight: Tensor
    scale: Tensor

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    @classmethod
    def of(cls, layer: nn.Linear) -> Int8Linear:
        made = cls(*layer.weight.shape).to(layer.weight.device)
        with torch.no_grad():
            made.scale.copy_(layer.weight.abs().amax(1).clamp_min(1e-12) / _LARGEST)
            made.weight.copy_((layer.weight / made.scale[:, None]).round())
            made.bias.copy_(layer.bias)
        return made

    def forward(self, x: Tensor) -> Tensor:
        scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-12) / _LARGEST
        whole = (x / scale).round()
        return whole @ self.weight.float().T * (scale * self.scale) + self.bias


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module.eval())


def _quantised(layer: LayerCosts) -> LayerCosts:
    outputs, inputs = layer.shapes["weight"]
    held = outputs * inputs + 4 * outputs + 4 * outputs  # weight, scale, bias
    return replace(
        layer,
        kind="Int8Linear",
        shapes={"weight": (outputs, inputs), "scale": (outputs,), "bias": (outputs,)},
        costs=Costs(params=outputs, macs=layer.costs.macs, bytes=held, nonzero=outputs),
    )
