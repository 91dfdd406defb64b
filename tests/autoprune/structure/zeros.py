"""A reference that shares nothing with the engine but the plan: a net built anew, with zeros for what goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.structure import Structure


def kept_units(structure: Structure, share: float, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        g.name: torch.randperm(g.units, generator=generator)[: max(1, round(share * g.units))].sort().values
        for g in structure.groups
    }


def with_zeros(dense: nn.Module, kept: Mapping[str, Mapping[int, Tensor]]) -> nn.Module:
    """A dense net, newly built, with zeros in the entries that a plan takes away."""
    tensors = {**dict(dense.named_parameters()), **dict(dense.named_buffers())}
    with torch.no_grad():
        for name, dims in kept.items():
            for dim, index in dims.items():
                gone = torch.ones(tensors[name].shape[dim], dtype=torch.bool)
                gone[index] = False
                tensors[name].index_fill_(dim, gone.nonzero().view(-1), 0)
    return dense


def close(actual: Any, expected: Any) -> None:
    for a, b in zip(pytree.tree_leaves(actual), pytree.tree_leaves(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
