"""Whether a model is right as often as it is sure.

Shapes use: N samples of M elements each.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from autoprune.plugin import Cost, Measured, Metric, Task
from autoprune_evaluators._whole import WholeEvaluator

if TYPE_CHECKING:
    from torch import Tensor

_FOLDED = math.sqrt(2 / math.pi)
"""Mean distance from 0 of a normal variable, in standard deviations."""


class CalibrationError(WholeEvaluator):
    """The expected calibration error: how far confidence is from accuracy, the mean over bins of like confidence.

    Confidence is the softmax's largest probability; of several labels the sigmoid's, compared with how often a label
    is true. Guo et al., *On calibration of modern neural networks*, arXiv:1706.04599; bins of equal mass as by Nixon et
    al., *Measuring calibration in deep learning*, arXiv:1904.01685.

    Chance alone makes bins differ, so that the error of samples leans high. The lower end of its 95 % interval takes
    off as much as that can be: a calibrated model's goes down to 0.
    """

    name = "calibration-error"
    metrics = (
        Metric("calibration_error", "fraction", "minimize", Cost.FORWARD, "Expected distance of confidence, accuracy."),
    )
    undefined: ClassVar[str] = "nothing counts in any of the samples"

    bins: int = Field(default=15, ge=1, description="How many.")
    binning: Literal["equal-width", "equal-mass"] = Field(
        default="equal-width",
        description="equal-width: each spans as much confidence; equal-mass: each holds as many elements.",
    )

    def _kept(self, task: Task, outputs: Any, targets: Any) -> Tensor:
        """Confidence, and whether it was justified, -1 where that does not count, (N, 2, M)."""
        import torch

        from autoprune_evaluators._counting import elements

        found = elements(self.name, "compares confidence with accuracy", task, outputs, targets)
        if found.several:
            sure, right = found.scores.double().sigmoid(), found.targets == 1
        else:
            sure, right = found.scores.double().softmax(1).amax(1), found.right
        marks = right.double().masked_fill(~found.counting, -1)
        return torch.stack([sure.flatten(1), marks.flatten(1)], dim=1)

    def _contributions(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        counted = (kept[:, 1] >= 0).sum(1)
        gaps, place = self._binned(kept)
        signed = kept.new_zeros(kept[:, 0].shape)
        # The sum over a bin of what they contribute is the bin's distance.
        counting = kept[:, 1] >= 0
        signed[counting] = _gap(kept, counting) * gaps.sign()[place]
        return signed.sum(1) / counted.clamp_min(1), counted

    def _mean(self, values: Tensor, counted: Tensor, kept: Tensor) -> Measured:
        found = super()._mean(values, counted, kept)
        if found.low is None or found.high is None:
            return found
        return found.model_copy(update={"low": max(0.0, found.low - self._lean(kept)), "high": min(1.0, found.high)})

    def _binned(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of right less sure of each bin, (B,), and the bin of each element that counts, (E,)."""
        import numpy as np
        import torch

        counting = kept[:, 1] >= 0
        sure = kept[:, 0][counting]
        inner = np.linspace(0, 1, self.bins + 1)[1:-1]
        edges = inner if self.binning == "equal-width" or not len(sure) else np.quantile(sure.numpy(), inner)
        place = torch.bucketize(sure, torch.from_numpy(edges))  # a bin is without its lower end, as Guo's are
        return kept.new_zeros(self.bins).index_add(0, place, _gap(kept, counting)), place

    def _lean(self, kept: Tensor) -> float:
        """The most that chance adds to the error: the sum over bins of how far a gap of 0 is from 0 in the mean."""
        import torch

        counting = kept[:, 1] >= 0
        gaps, place = self._binned(kept)
        sizes = kept.new_zeros(self.bins).index_add(0, place, torch.ones_like(place, dtype=kept.dtype))
        off = _gap(kept, counting) - (gaps / sizes.clamp_min(1))[place]
        # Elements of one sample are alike: what they are off together is what varies.
        sample = counting.nonzero()[:, 0]
        together = kept.new_zeros(len(kept) * self.bins).index_add(0, sample * self.bins + place, off)
        deviations = together.view(len(kept), self.bins).square().sum(0).sqrt()
        return _FOLDED * float(deviations.sum()) / float(sizes.sum())


def _gap(kept: Tensor, counting: Tensor) -> Tensor:
    """Right less sure of the elements that count, (E,)."""
    return kept[:, 1][counting] - kept[:, 0][counting]
