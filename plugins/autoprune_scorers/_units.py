"""From parameter entries to units."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Slice


def along(values: Tensor, dim: int) -> Tensor:
    """Sum over every dimension but ``dim``, (…, D, …) to (D,).

    A unit always is whole hyperplanes of a parameter, so these sums are all that units are made of.
    """
    return values.movedim(dim, 0).reshape(values.shape[dim], -1).sum(1)


def per_unit(sums: Tensor, place: Slice) -> Tensor:
    """Sums along the slice's dimension, (…, D), to sums over the entries of each unit, (…, U)."""
    return sums[..., place.index.to(sums.device)].sum(-1)
