"""Published repairs in closed form, made again: they mix the inputs that a layer still gets, or shift its outputs.

What they know of the data are means and second moments of what each layer of the *dense* network reads. Shapes use: C
channels that a dense layer reads, K of them that stay, O of its outputs that stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from autoprune.plugin import PruneContext, Pruned

RIDGE = 1e-3
"""Relative to the mean diagonal, as in GRAIL's code."""


@dataclass
class Reads:
    """What a layer of the dense network reads, over all positions."""

    count: int
    total: Tensor
    """Σ x, (C,), float64."""
    gram: Tensor
    """Σ x xᵀ, (C, C), float64."""

    @property
    def mean(self) -> Tensor:
        """(C,)."""
        return self.total / self.count


def layers(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """Convolutions and linear layers, by name."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield name, module


def reads(network: nn.Module, run: Callable[[], None]) -> dict[str, Reads]:
    """Moments of what every layer reads.

    Args:
        network: The dense one.
        run: Runs it on the samples, in as many batches as it likes.
    """
    found: dict[str, Reads] = {}

    def hang(name: str, module: nn.Module) -> RemovableHandle:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0].movedim(1, -1).flatten(0, -2)
            more = Reads(len(x), x.sum(0).double(), (x.mT @ x).double())
            old = found.get(name)
            found[name] = more if old is None else _added(old, more)

        return module.register_forward_pre_hook(hook)

    hooks = [hang(name, module) for name, module in layers(network)]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _added(one: Reads, other: Reads) -> Reads:
    return Reads(one.count + other.count, one.total + other.total, one.gram + other.gram)


Form = Callable[[Reads, Tensor], tuple[Tensor, Tensor]]
"""Moments and the channels that stay, (K,), to how all channels are told by those: x ≈ B x_K + c, (C, K) and (C,)."""


def bias(known: Reads, kept: Tensor) -> tuple[Tensor, Tensor]:
    """A channel that is gone is its mean: the bias compensation of An et al., "Fluctuation-based Adaptive Structured
    Pruning for Large Language Models", arXiv:2312.11983.
    """
    chosen, gone = _chosen(known, kept)
    return chosen, known.mean * gone


def mixing(known: Reads, kept: Tensor) -> tuple[Tensor, Tensor]:
    """All channels are linear in those that stay: Tang et al., "GRAIL: Post-hoc Compensation by Linear Reconstruction
    for Compressed Networks", arXiv:2602.23795.
    """
    return _regressed(known.gram / known.count, kept), torch.zeros_like(known.mean)


def affine(known: Reads, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Channels that are gone are affine in those that stay: Zhang & Yang, "CORP: Closed-Form One-shot
    Representation-Preserving Structured Pruning for Transformers", arXiv:2602.05243.
    """
    chosen, gone = _chosen(known, kept)
    covariance = known.gram / known.count - known.mean.outer(known.mean)
    matrix = torch.where(gone.unsqueeze(1), _regressed(covariance, kept), chosen)
    return matrix, (known.mean - matrix @ known.mean[kept]) * gone


def _chosen(known: Reads, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The channels that stay as they are, (C, K), and which are gone, bool of shape (C,)."""
    chosen = torch.eye(len(known.total), dtype=known.total.dtype)[:, kept]
    return chosen, chosen.sum(1) == 0


def _regressed(second: Tensor, kept: Tensor) -> Tensor:
    """Ridge regression of all channels on those that stay, (C, K)."""
    among = second[kept][:, kept]
    damped = among + RIDGE * among.diagonal().mean() * torch.eye(len(kept), dtype=among.dtype)
    return torch.linalg.solve(damped, second[kept]).mT


def apply(form: Form, known: Mapping[str, Reads], pruned: Pruned, ctx: PruneContext) -> None:
    """Fold what a form says into the weights of all layers that lost an input, in place.

    A constant goes into the layer's bias or into the batch norm behind it, as it is where no padding is read.

    Args:
        form: What tells the channels that are gone.
        known: Moments of what layers of the dense network read.
        pruned: The cut network.
        ctx: Knows the dense one.
    """
    modules: dict[str, Any] = dict(pruned.network.named_modules())
    for name, dense in layers(ctx.dense):
        full = dense.weight.detach()
        kept = columns(ctx, pruned, name, full.shape[1])
        if len(kept) == full.shape[1]:
            continue
        matrix, constant = form(known[name], kept)
        weight = full[ctx.rows(pruned, name)].double()
        shift = (weight if weight.dim() == 2 else weight.flatten(2).sum(2)) @ constant
        layer = modules[name]
        with torch.no_grad():
            layer.weight.copy_(torch.einsum("oc...,ck->ok...", weight, matrix))
            if layer.bias is not None:
                layer.bias += shift
            else:
                modules[name.replace("conv", "bn")].running_mean -= shift  # as this benchmark's networks call them


def columns(ctx: PruneContext, pruned: Pruned, layer: str, count: int) -> Tensor:
    """Which of its inputs a layer still gets, (K,).

    Args:
        ctx: Knows the groups.
        pruned: The cut network.
        layer: Its name.
        count: What it got in the dense network.
    """
    stays = torch.ones(count, dtype=torch.bool)
    for group in ctx.groups:
        gone = torch.ones(group.units, dtype=torch.bool)
        gone[pruned.kept.get(group.name, slice(None))] = False
        for part in group.slices:
            if part.parameter == f"{layer}.weight" and part.role == "input":
                stays[part.index[gone]] = False
    return stays.nonzero().view(-1)
