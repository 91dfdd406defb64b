"""What models leak together that are published side by side.

Li et al., *CompLeak: deep learning model compression exacerbates privacy leakage*, arXiv:2507.16872.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from autoprune_evaluators._logistic import Logistic
from autoprune_evaluators._membership import Scores


def together(each: Sequence[Scores]) -> Scores:
    """Scores of an attacker who asks all models about a sample and weighs their answers by logistic regression.

    The weights for one half of the samples are learnt on the other half, so that nothing is found where nothing leaks:
    an attacker who knows some members and some others. Models' scores count by their ranks, as normal quantiles.

    Args:
        each: Of every model, of the same samples in random order.
    """
    features = torch.stack([_normal(torch.cat([scores.members, scores.others])) for scores in each], 1)
    count = len(each[0].members)
    sides = features[:count], features[count:]
    found = [torch.empty(len(side), dtype=torch.float64) for side in sides]
    for half in (0, 1):
        known = [side[1 - half :: 2] for side in sides]
        classes = torch.cat([torch.ones(len(known[0])), torch.zeros(len(known[1]))]).long()
        fitted = Logistic.fitted(torch.cat(known), classes, 2)
        # Their direction alone: so scores of both halves compare, and one model's stay in the order that they were in.
        direction = (fitted.weights[:, 1] - fitted.weights[:, 0]) / fitted.deviation
        direction /= direction.norm().clamp_min(1e-12)
        for scores, side in zip(found, sides, strict=True):
            scores[half::2] = side[half::2] @ direction
    return Scores(*found)


def _normal(scores: Tensor) -> Tensor:
    """Normal quantiles of ranks, (N,) float64, the same for equal scores."""
    scores = scores.double()
    ordered = scores.sort().values
    ranks = torch.searchsorted(ordered, scores) + torch.searchsorted(ordered, scores, right=True)
    quantiles: Tensor = torch.special.ndtri(ranks.double() / 2 / len(scores))
    return quantiles
