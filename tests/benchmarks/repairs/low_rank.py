"""Low rank in place of fewer channels, made again: ranks by a budget of multiply-accumulates.

González Martínez, "BALF: Budgeted Activation-Aware Low-Rank Factorization for Fine-Tuning-Free Model Compression",
arXiv:2509.25136. Shapes use: F features that an output reads, O outputs, P places of a layer's outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from .closed_forms import layers


@dataclass
class Layer:
    """What a layer's factors are made from."""

    gram: Tensor
    """Σ x xᵀ of what its outputs read, (F, F), float64."""
    rows: int
    """In that sum."""


@dataclass(frozen=True)
class Spectrum:
    """A layer's weight, seen through what it reads: W = M U S Vᵀ with M a root of the second moments."""

    left: Tensor
    """M U, (F, R)."""
    values: Tensor
    """(R,), largest first."""
    right: Tensor
    """Vᵀ, (R, O)."""
    places: int
    """Of its outputs, in one sample."""

    def costs(self) -> Tensor:
        """Multiply-accumulates of a sample at each rank from 1 on, those of the layer itself at most, (R,)."""
        (features, _), (_, outputs) = self.left.shape, self.right.shape
        ranks = torch.arange(1, len(self.values) + 1)
        return self.places * (ranks * (features + outputs)).clamp(max=features * outputs)


def moments(network: nn.Module, run: Callable[[], None]) -> dict[str, Layer]:
    """What the layers read.

    Args:
        network: The dense one.
        run: Runs it on the samples, in as many batches as it likes.
    """
    found: dict[str, Layer] = {}

    def hook(name: str, layer: Any, x: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            x = unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride).mT.flatten(0, 1)
        old = found.setdefault(name, Layer(torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64), 0))
        old.gram += (x.mT @ x).double()
        old.rows += len(x)

    hooks = [
        layer.register_forward_pre_hook(lambda layer, args, name=name: hook(name, layer, args[0]))
        for name, layer in layers(network)
    ]
    try:
        with torch.no_grad():
            run()
    finally:
        for each in hooks:
            each.remove()
    return found


def spectra(network: nn.Module, known: dict[str, Layer], samples: int) -> dict[str, Spectrum]:
    """Each layer's, seen through what it reads.

    Args:
        network: The dense one.
        known: What its layers read.
        samples: How many went through.
    """
    found = {}
    for name, layer in layers(network):
        values, vectors = torch.linalg.eigh(known[name].gram / known[name].rows)
        roots = values.clamp_min(0).sqrt()
        kept = roots > 1e-10
        inverse = torch.where(kept, 1 / roots.clamp_min(1e-10), torch.zeros_like(roots))
        weight = layer.weight.detach().double().flatten(1).T
        left, singular, right = torch.linalg.svd((roots.unsqueeze(1) * vectors.mT) @ weight, full_matrices=False)
        found[name] = Spectrum(vectors * inverse @ left, singular, right, known[name].rows // samples)
    return found


def ranks(spectra: dict[str, Spectrum], budget: float) -> dict[str, int]:
    """Those that keep most energy within a budget: one Lagrange multiplier, found by bisection.

    Args:
        spectra: Of the layers; energy counts as a share of a layer's own.
        budget: Multiply-accumulates of a sample.
    """
    energies = {name: (s.values.square().cumsum(0) / s.values.square().sum()) for name, s in spectra.items()}
    costs = {name: s.costs().double() for name, s in spectra.items()}

    def chosen(price: float) -> dict[str, int]:
        return {name: int((energies[name] - price * costs[name]).argmax()) for name in spectra}

    def spent(choice: dict[str, int]) -> float:
        return sum(float(costs[name][rank]) for name, rank in choice.items())

    low, high = 0.0, 1.0
    for _ in range(300):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(chosen(middle)) > budget else (low, middle)
    return {name: rank + 1 for name, rank in chosen(high).items()}


def factorized(network: nn.Module, spectra: dict[str, Spectrum], chosen: dict[str, int]) -> nn.Module:
    """A copy with two thin layers in place of each one that gets cheaper by it."""
    small = copy.deepcopy(network)
    modules = dict(small.named_modules())
    for name, layer in list(layers(small)):
        spectrum, rank = spectra[name], chosen[name]
        features, outputs = len(spectrum.left), spectrum.right.shape[1]
        if rank * (features + outputs) >= features * outputs:
            continue
        roots = spectrum.values[:rank].sqrt()
        first, second = _pair(layer, rank)
        with torch.no_grad():
            first.weight.copy_((spectrum.left[:, :rank] * roots).T.reshape(first.weight.shape))
            second.weight.copy_((roots.unsqueeze(1) * spectrum.right[:rank]).T.reshape(second.weight.shape))
            if layer.bias is not None:
                second.bias.copy_(layer.bias)
        parent, _, own = name.rpartition(".")
        setattr(modules[parent] if parent else small, own, nn.Sequential(first, second))
    return small.eval()


def _pair(layer: Any, rank: int) -> tuple[Any, Any]:
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=bias)
    first = nn.Conv2d(
        layer.in_channels, rank, layer.kernel_size, layer.stride, layer.padding, layer.dilation, bias=False
    )  # fmt: skip
    return first, nn.Conv2d(rank, layer.out_channels, 1, bias=bias)
