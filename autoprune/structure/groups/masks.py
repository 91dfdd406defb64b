"""Sparsity: weights, kernels and N:M patterns that become zero inside parameters of unchanged shape.

Weights: Han et al., "Learning both Weights and Connections", arXiv:1506.02626. Kernels, one input–output pair of a
convolution: Mao et al., "Exploring the Regularity of Sparse Structure", arXiv:1705.08922. N:M, at most N weights of
each M along dimension 1: Mishra et al., "Accelerating Sparse Deep Neural Networks", arXiv:2104.08378.

Masks are chosen among what other cuts leave, in the asked proportion, so that both can be searched at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from autoprune.plugin import Group
from autoprune.structure.graph.labeling import Labeling
from autoprune.structure.groups.channels import Uncut, layer_of


def pattern(granularity: str) -> tuple[int, int] | None:
    """N and M of an N:M granularity such as ``2:4``; None of any other."""
    n, colon, m = granularity.partition(":")
    return (int(n), int(m)) if colon else None


def mask_groups(network: nn.Module, found: Labeling, granularity: str) -> tuple[tuple[Group, ...], tuple[Uncut, ...]]:
    """One group for each weight that convolutions, linear and recurrent layers multiply with.

    Args:
        network: The dense network.
        found: Its labelled graph.
        granularity: ``weight``, ``kernel`` or N:M such as ``2:4``.

    Returns:
        The groups, in the order of the graph, and the layers that N:M does not fit.
    """
    parameters = dict(network.named_parameters())
    groups, uncut = [], []
    for name in _weights(found, parameters):
        shape = parameters[name].shape
        units, step = shape.numel(), 1
        if granularity == "kernel":
            if len(shape) < 3:
                continue
            units = shape[0] * shape[1]
        elif (ratio := pattern(granularity)) is not None:
            n, m = ratio
            if shape[1] % m:
                uncut.append(Uncut(layer_of(name), units, f"{granularity} needs a multiple of {m} inputs: {shape[1]}"))
                continue
            step = units // m * (m - n)
        groups.append(Group(name, units, granularity, (layer_of(name),), masked=name, step=step))
    return tuple(groups), tuple(uncut)


def _weights(found: Labeling, parameters: Mapping[str, nn.Parameter]) -> list[str]:
    starts = torch.tensor([span.first for span in found.ranges] or [0])
    names: dict[str, None] = {}
    for role in ("input", "output"):
        for atoms in found.roles[role]:
            for number in torch.unique(torch.searchsorted(starts, atoms[atoms != 0], right=True) - 1).tolist():
                name = found.ranges[number].tensor
                # What only is an output may be an embedding; a depthwise convolution's inputs have no dimension.
                if name in parameters and parameters[name].ndim >= (2 if role == "input" else 3):
                    names.setdefault(name)
    order = {name: position for position, name in enumerate(parameters)}
    return sorted(names, key=order.__getitem__)


def zeroed(group: Group, sizes: Sequence[int], cut_units: int) -> int:
    """How many units of a mask group become zero.

    Args:
        group: Its parameter is masked.
        sizes: What other cuts leave of the parameter's shape.
        cut_units: How many would go of the whole parameter.
    """
    if not cut_units:
        return 0
    if (ratio := pattern(group.granularity)) is not None:
        n, m = ratio
        return sizes[0] * (sizes[1] // m) * math.prod(sizes[2:]) * (m - n)
    left = sizes[0] * sizes[1] if group.granularity == "kernel" else math.prod(sizes)
    return (2 * left * cut_units + group.units) // (2 * group.units)


def chosen(group: Group, scores: Tensor, cut_units: int, shape: torch.Size, kept: Mapping[int, Tensor]) -> Tensor:
    """The units that stay, bool of shape (U,): False for the worst of those that other cuts leave.

    Those of score minus infinity are gone already, and go however few are asked for.

    Args:
        group: Its parameter is masked.
        scores: Importance, (U,).
        cut_units: How many would go of the whole parameter.
        shape: Of the whole parameter.
        kept: Dimension to the indices that other cuts leave.
    """
    dims = wide(group, shape)
    left = scores.cpu().view(dims)
    for dim, index in kept.items():
        left = left.index_select(dim, index.cpu())
    stays = torch.ones(left.shape, dtype=torch.bool)
    count = zeroed(group, left.shape, cut_units)
    if count and (ratio := pattern(group.granularity)) is not None:
        n, m = ratio
        whole = left.shape[1] // m * m
        blocks = left[:, :whole].movedim(1, -1)
        worst = blocks.reshape(-1, m).argsort(dim=1, stable=True)[:, : m - n]
        flags = torch.ones(len(worst), m, dtype=torch.bool).scatter_(1, worst, False)
        stays[:, :whole] = flags.view(blocks.shape).movedim(-1, 1)
    elif count:
        stays.view(-1)[left.reshape(-1).argsort(stable=True)[:count]] = False
    stays &= left != -math.inf
    for dim, index in reversed(list(kept.items())):
        size = [*stays.shape[:dim], dims[dim], *stays.shape[dim + 1 :]]
        stays = torch.ones(size, dtype=torch.bool).index_copy_(dim, index.cpu(), stays)
    return stays.view(-1)


def wide(group: Group, shape: torch.Size) -> torch.Size:
    """Shape of the units of a mask group: of kernels the first two dimensions of the parameter's."""
    return shape[:2] if group.granularity == "kernel" else shape


def expanded(group: Group, stays: Tensor, shape: torch.Size) -> Tensor:
    """A mask over all entries of the parameter, bool in its shape."""
    if group.granularity != "kernel":
        return stays.view(shape)
    return stays.view(*shape[:2], *[1] * (len(shape) - 2)).expand(shape)
