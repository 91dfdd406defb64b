"""Groups as they are in a cut network, and what is known of their units in the dense numbering."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from autoprune.plugin import Group, Slice
from autoprune.structure.groups.masks import pattern, wide
from autoprune.structure.groups.numbering import Indices, Kept, Numbering, lies_in


def remaining(numbering: Numbering, kept: Kept) -> tuple[Group, ...]:
    """The groups with the units that are left, numbered anew from 0, where they are in the cut network's tensors.

    Of weights and kernels all that the cut network has are units, zeros too. A group of which nothing is left (all of
    it was in blocks that are left out) has no units.
    """
    indices = numbering.indices(kept, numbering.stays(kept))
    gone = numbering.bypassed(kept)
    return tuple(_remaining(group, numbering, kept.get(group.name), indices, gone) for group in numbering.groups)


def _remaining(
    group: Group, numbering: Numbering, units: Tensor | None, indices: Indices, gone: Mapping[str, int]
) -> Group:
    if group.owned:
        stays = range(group.units) if units is None else units.tolist()
        layers, owned = tuple(group.layers[unit] for unit in stays), tuple(group.owned[unit] for unit in stays)
        return replace(group, units=len(owned), layers=layers, owned=owned)
    if group.masked:
        return _remaining_mask(group, numbering, indices, gone)
    slices = tuple(
        _remaining_slice(part, units, indices.get(part.parameter, {}).get(part.dim))
        for part in group.slices
        if not lies_in(part.parameter, gone)
    )
    layers = tuple(layer for layer in group.layers if not lies_in(layer, gone))
    count = 0 if not slices else group.units if units is None else len(units)
    return replace(group, units=count, layers=layers, slices=slices)


def _remaining_slice(part: Slice, units: Tensor | None, index: Tensor | None) -> Slice:
    own = part.index if units is None else part.index[units.cpu()]
    return replace(part, index=own if index is None else torch.searchsorted(index, own))


def _remaining_mask(group: Group, numbering: Numbering, indices: Indices, gone: Mapping[str, int]) -> Group:
    if lies_in(group.masked, gone):
        return replace(group, units=0)
    left = indices.get(group.masked, {})
    sizes = [len(left[dim]) if dim in left else size for dim, size in enumerate(numbering.masked[group.name])]
    units = math.prod(sizes[:2]) if group.granularity == "kernel" else math.prod(sizes)
    step = 1
    if (ratio := pattern(group.granularity)) is not None:
        n, m = ratio
        step = max(1, sizes[0] * (sizes[1] // m) * math.prod(sizes[2:]) * (m - n))
    return replace(group, units=units, step=step)


def spread(numbering: Numbering, group: Group, scores: Tensor, kept: Kept) -> Tensor:
    """Scores of the units that are left as scores of all of them.

    Args:
        numbering: The structure's.
        group: The dense one.
        scores: Of the units of the group as `remaining` has it, (U',).
        kept: The units that stay.

    Returns:
        Of shape (U,): minus infinity for units that are gone; 0 for those that nobody can score, because all that was
        left of their group is in blocks that are left out.
    """
    result = torch.full((group.units,), -math.inf, dtype=scores.dtype, device=scores.device)
    units = kept.get(group.name)
    if group.masked:
        shape = wide(group, numbering.masked[group.name])
        left = numbering.indices(kept, numbering.stays(kept)).get(group.masked, {})
        places = torch.arange(group.units).view(shape)
        for dim, index in left.items():
            places = places.index_select(dim, index)
        places = places.reshape(-1) if len(scores) else places.reshape(-1)[:0]
        result[places.to(scores.device)] = scores
        if not len(scores):
            result.fill_(0)
        return result if units is None else result.masked_fill(~units.to(scores.device), -math.inf)
    places = torch.arange(group.units) if units is None else units
    result[places.to(scores.device)] = scores if len(scores) else 0
    return result
