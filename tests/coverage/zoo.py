"""The cases of the coverage table: real architectures from their configurations, with random weights.

Every source is optional: its cases are there when it is installed, as the ``test`` extra does it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoprune.toolkit.packages import optional

Inputs = Callable[[int, torch.Generator], tuple[Tensor, ...]]
"""Random example inputs for so many samples."""


@dataclass(frozen=True)
class Case:
    """One architecture."""

    source: str
    """Where it comes from: ``torchvision``, ``timm``, ``transformers``, ``own`` or ``written``."""
    family: str
    name: str
    make: Callable[[], nn.Module]
    inputs: Inputs

    @property
    def key(self) -> str:
        """How it is called in the table and on the command line."""
        return f"{self.source}/{self.name}"

    def example(self, samples: int, seed: int) -> tuple[Tensor, ...]:
        """Random inputs."""
        return self.inputs(samples, torch.Generator().manual_seed(seed))

    def network(self) -> nn.Module:
        """The network in ``eval()``, the same at every call."""
        torch.manual_seed(0)
        return perturb(self.make(), self.example(8, 1))


_NEEDS = {
    "own": (),
    "written": (),
    "torchvision": ("torchvision",),
    "timm": ("torchvision", "timm"),
    "transformers": ("torchvision", "transformers"),
}


def cases(source: str = "") -> list[Case]:
    """Every case whose source is installed, or those of one source."""
    found: list[Case] = []
    for name, needs in _NEEDS.items():
        if source in ("", name) and all(map(installed, needs)):
            for package in needs:
                optional(package)
            found += importlib.import_module(f"{__package__}.zoo_{name}").CASES
    return found


def installed(package: str) -> bool:
    """Whether a source is installed."""
    return importlib.util.find_spec(package) is not None


def features(*shape: int) -> Inputs:
    """Normal numbers of shape (N, *shape)."""
    return lambda samples, generator: (torch.randn(samples, *shape, generator=generator),)


def tokens(vocabulary: int, steps: int) -> Inputs:
    """Token numbers of shape (N, steps)."""
    return lambda samples, generator: (torch.randint(vocabulary, (samples, steps), generator=generator),)


def both(*inputs: Inputs) -> Inputs:
    """Several inputs."""
    return lambda samples, generator: tuple(x for one in inputs for x in one(samples, generator))


def perturb(network: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    """Weights under which a wrong cut shows: nothing constant, nothing so small that a branch hardly counts.

    What is made constant (scales, shifts, layer scales, position tables) becomes random, weights of the usual
    deviation of 0.02 get one that keeps the size of activations, and the statistics of batch norms are those of some
    inputs, off by a random share: signals neither fade nor explode on their way through.
    """
    generator = torch.Generator().manual_seed(0)

    def uniform(shape: torch.Size, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    network.eval()
    with torch.no_grad():
        for module in network.modules():
            for name, parameter in module.named_parameters(recurse=False):
                first = float(parameter.flatten()[0])
                if bool((parameter == first).all()):
                    parameter.copy_(uniform(parameter.shape, *((-0.5, 0.5) if first == 0 else (0.5, 1.5))))
                elif parameter.ndim >= 2 and float(parameter.std()) < 0.05:
                    product = name == "weight" and not isinstance(module, nn.Embedding)
                    scale = parameter[0].numel() ** -0.5 if product else 0.3
                    parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.train().momentum = 1.0
        network(*inputs)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            deviation = norm.running_var.sqrt()
            norm.running_mean.add_(deviation * uniform(deviation.shape, -0.3, 0.3))
            norm.running_var.mul_(uniform(deviation.shape, 0.6, 1.6))
    return network.eval()
