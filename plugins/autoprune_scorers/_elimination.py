"""Units taken from their readers one by one, each time the one that is missed least, what stays making up for it.

Shapes use: g groups of a layer (1 unless it is a convolution in groups), F features that an output of a group reads, O
outputs of a group, U units, K features of a unit in each group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_SHARE = 64
"""Of the units that are left, one in so many goes at a time."""


@dataclass(frozen=True)
class Layer:
    """What is known of a layer that reads units; float64."""

    inverse: Tensor
    """Of the damped second moments of its inputs, (g, F, F)."""
    weight: Tensor
    """(g, O, F)."""
    variance: Tensor
    """Of its outputs, summed over them, of shape (); what is lost is relative to it."""


def eliminate(readers: Sequence[tuple[Layer, Tensor]]) -> Tensor:
    """Take all units out and tell what the readers had lost by then.

    Args:
        readers: Each with the features of each unit, int64 of shape (g, U, K).

    Returns:
        What is lost when a unit and all before it are gone, in the sum over the readers, float64 of shape (U,). It
        grows strictly in the order of removal, if only by a rounding error.
    """
    import torch

    going = [_Going(layer.inverse.clone(), layer.weight.clone(), layer.variance, own) for layer, own in readers]
    left = torch.arange(readers[0][1].shape[1], device=readers[0][1].device)
    order, lost = [], []
    while len(left):
        damage = torch.stack([reader.damage(left) for reader in going]).sum(0)
        ranked = damage.argsort(stable=True)
        count = max(1, len(left) // _SHARE)
        order.append(left[ranked[:count]])
        lost.append(torch.stack([reader.remove(order[-1]) for reader in going]).sum(0))
        left = left[ranked[count:].sort().values]
    total = torch.cat(lost).cumsum(0).cpu()
    # Units whose removal costs nothing are in order, too.
    number, float64 = torch.arange(len(total)), torch.finfo(total.dtype)
    total = total * (1 + 2 * float64.eps * number) + float64.tiny * number
    return torch.empty_like(total).scatter_(0, torch.cat(order).cpu(), total)


@dataclass(frozen=True)
class _Going:
    """A layer that loses units, changed in place."""

    inverse: Tensor
    weight: Tensor
    variance: Tensor
    columns: Tensor
    """The features of each unit, (g, U, K)."""

    def damage(self, units: Tensor) -> Tensor:
        """What each of some units, int64 of shape (U',), would cost alone: tr(W_J (H_JJ)⁻¹ W_Jᵀ), (U',)."""
        import torch

        columns = self.columns[:, units]
        group = torch.arange(len(columns), device=columns.device).view(-1, 1, 1)
        block = self.inverse[group.unsqueeze(3), columns.unsqueeze(3), columns.unsqueeze(2)]  # (g, U', K, K)
        weight = self.weight.mT[group, columns]  # (g, U', K, O)
        damage: Tensor = _whitened(block, weight).square().sum((0, 2, 3)) / self.variance
        return damage

    def remove(self, units: Tensor) -> Tensor:
        """Take some out, in order; what each costs after those before it, (U',)."""
        import torch

        columns = self.columns[:, units].flatten(1)
        group = torch.arange(len(columns), device=columns.device).view(-1, 1)
        block = self.inverse[group.unsqueeze(2), columns.unsqueeze(2), columns.unsqueeze(1)]
        # Triangular, so that each feature is whitened by those before it alone.
        both = torch.cat([self.weight.mT[group, columns], self.inverse[group, columns]], dim=2)
        weight, rows = _whitened(block, both).tensor_split([self.weight.shape[1]], dim=2)
        self.weight.baddbmm_(weight.mT, rows, alpha=-1)
        self.inverse.baddbmm_(rows.mT, rows, alpha=-1)
        return weight.square().sum((0, 2)).view(len(units), -1).sum(1) / self.variance


def _whitened(block: Tensor, values: Tensor) -> Tensor:
    """L⁻¹ V of H_JJ = L Lᵀ, (…, K, K), and V, (…, K, V)."""
    import torch

    whitened: Tensor = torch.linalg.solve_triangular(torch.linalg.cholesky(block), values, upper=False)
    return whitened
