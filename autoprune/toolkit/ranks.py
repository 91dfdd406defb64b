"""How far scores tell positives from negatives: the area under the ROC curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.plugin import Difference, Measured
from autoprune.toolkit.intervals import half_of_two

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Separation:
    """Where scores of positives stand among those of negatives, and the other way round.

    Their means are the area under the ROC curve, and their variances its uncertainty. DeLong et al., *Comparing the
    areas under two or more correlated receiver operating characteristic curves*, Biometrics 44 (1988).
    """

    above: Tensor
    """Of each positive, the share of negatives below it, ties by half, (P,) float64."""
    below: Tensor
    """Of each negative, the share of positives above it, (N,) float64."""

    @classmethod
    def of(cls, positives: Tensor, negatives: Tensor) -> Separation:
        """Compare scores, (P,) and (N,), at least one of each."""
        positives, negatives = positives.detach().cpu().double(), negatives.detach().cpu().double()
        return cls(_share_below(positives, negatives), 1 - _share_below(negatives, positives))

    def auc(self) -> Measured:
        """The area: the share of pairs whose positive scores higher. No interval where all pairs say the same."""
        value = float(self.above.mean())
        samples = len(self.above) + len(self.below)
        half = half_of_two(self.above, self.below)
        if not half:
            return Measured(value=value, samples=samples)
        return Measured(value=value, low=max(0.0, value - half), high=min(1.0, value + half), samples=samples)

    def difference(self, other: Separation) -> Difference:
        """How much larger the area is than by other scores of the same samples."""
        above, below = self.above - other.above, self.below - other.below
        value, half = float(above.mean()), half_of_two(above, below)
        return Difference(value=value, low=value - half, high=value + half)


def _share_below(scores: Tensor, others: Tensor) -> Tensor:
    import torch

    ordered = others.sort().values
    smaller = torch.searchsorted(ordered, scores)
    at_most = torch.searchsorted(ordered, scores, right=True)
    return (smaller + at_most).double() / (2 * len(ordered))
