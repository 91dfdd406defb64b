"""What a cut of one group alone does to the predictions: one forward pass, no labels, no recovery.

Batch norms use the statistics of the batch meanwhile, which is what recalibrating them would come to. The divergence of
the predictions from the dense model's adds up over groups far better than accuracy does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax
from torch.nn.modules.batchnorm import _BatchNorm

from autoprune.errors import TrialError
from autoprune.structure import Structure

Predict = Callable[[nn.Module], Tensor]


class Prober:
    """Measures what cuts do. One is measured once, whichever scores chose it."""

    def __init__(self, structure: Structure, network: nn.Module, predict: Predict) -> None:
        """Measures what cuts do.

        Args:
            structure: Of the network.
            network: A copy of the dense network, in ``eval()``. Cuts share with it what they leave whole, so that its
                batch norms go to train mode and count.
            predict: Class scores (N, C) of a network, on samples that are always the same.
        """
        self._structure = structure
        self._network = network
        self._predict = predict
        self._known: dict[tuple[str, bytes], tuple[float, float]] = {}

    def __call__(self, group: str, scores: Tensor, units: int) -> tuple[float, float]:
        """Divergence from the dense predictions, and share of the samples that still have the dense label.

        Args:
            group: Its name.
            scores: Importance of its units, (U,).
            units: How many of them go.

        Raises:
            TrialError: A prediction is infinite or NaN.
        """
        kept = self._structure.select({group: scores}, {group: units})
        key = group, kept[group].cpu().numpy().tobytes()
        if key not in self._known:
            self._known[key] = self._compared(kept)
        return self._known[key]

    @cached_property
    def _dense(self) -> Tensor:
        return self._predicted({})

    def _predicted(self, kept: Mapping[str, Tensor]) -> Tensor:
        """A network's predictions, in logarithms (N, C).

        Batch norms, those of the dense model too, take the statistics of the samples, as if they were recalibrated: so
        what they are off by is the same on both sides.
        """
        network = self._structure.cut(self._network, kept, share=True)
        for norm in (m for m in network.modules() if isinstance(m, _BatchNorm)):
            norm.training = True  # has no modules of its own, so ``train()`` does no more, slowly
        with torch.no_grad():
            return log_softmax(self._predict(network).double(), dim=1)

    def _compared(self, kept: Mapping[str, Tensor]) -> tuple[float, float]:
        dense, pruned = self._dense, self._predicted(kept)
        divergence = kl_div(pruned, dense, reduction="batchmean", log_target=True)
        if not divergence.isfinite():
            raise TrialError("the predictions are not all finite")
        agreement = (pruned.argmax(dim=1) == dense.argmax(dim=1)).double().mean()
        return max(0.0, float(divergence)), float(agreement)
