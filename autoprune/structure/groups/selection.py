"""Which units stay: the best ones."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from autoprune.structure.groups.masks import chosen
from autoprune.structure.groups.numbering import Numbering, lies_in


def selected(numbering: Numbering, scores: Mapping[str, Tensor], cut_units: Mapping[str, int]) -> dict[str, Tensor]:
    """The units that stay; of equal ones the first.

    Args:
        numbering: The structure's.
        scores: Importance of each unit, (U,) per group.
        cut_units: Units that go, per group.
    """
    kept = {
        group.name: _best(scores[group.name].cpu(), group.units - cut_units.get(group.name, 0))
        for group in numbering.groups
        if group.name in scores and not group.masked
    }
    left = numbering.indices(kept, numbering.stays(kept))
    gone = numbering.bypassed(kept)
    for group in numbering.groups:
        if group.name in scores and group.masked:
            count = 0 if lies_in(group.masked, gone) else cut_units.get(group.name, 0)
            shape = numbering.masked[group.name]
            kept[group.name] = chosen(group, scores[group.name], count, shape, left.get(group.masked, {}))
    return kept


def _best(scores: Tensor, count: int) -> Tensor:
    """Sorted indices of the ``count`` highest scores; of equal ones the first."""
    return scores.argsort(descending=True, stable=True)[:count].sort().values
