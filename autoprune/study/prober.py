"""What a cut of one group alone does to the outputs: one forward pass, no labels.

It is the effect after recovery, where the strategy can tell cheaply what that comes to, as closed forms can. Else batch
norms use the statistics of the batch meanwhile, which is what recalibrating them would come to. The divergence of the
outputs from the dense model's adds up over groups far better than accuracy does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from autoprune.errors import TrialError
from autoprune.plugin import Pruned, Task
from autoprune.structure import Structure
from autoprune.toolkit.samples import agreements, divergences, mean

Predict = Callable[[nn.Module], Any]


def as_cut(pruned: Pruned) -> bool:  # noqa: ARG001  whatever it is
    """Nothing is recovered."""
    return False


class Prober:
    """Measures what cuts do. One is measured once, whichever scores chose it."""

    def __init__(
        self,
        structure: Structure,
        network: nn.Module,
        predict: Predict,
        task: Task,
        targets: Any,
        recover: Callable[[Pruned], bool] = as_cut,
    ) -> None:
        """Measures what cuts do.

        Args:
            structure: Of the network.
            network: A copy of the dense network, in ``eval()``. Cuts share with it what they leave whole, so that its
                batch norms go to train mode and count.
            predict: Outputs of a network, N samples first, on samples that are always the same.
            task: Says how far outputs are apart.
            targets: Of those samples.
            recover: What recovery comes to after a cut of one group alone; whether it comes to anything.
        """
        self._structure = structure
        self._network = network
        self._predict = predict
        self._task = task
        self._targets = targets
        self._recover = recover
        self._dense: dict[bool, Any] = {}
        self._known: dict[tuple[str, bytes], tuple[float, float]] = {}

    def __call__(self, group: str, scores: Tensor, units: int) -> tuple[float, float]:
        """Mean divergence from the dense outputs, and mean share of what those say that is still said.

        Args:
            group: Its name.
            scores: Importance of its units, (U,).
            units: How many of them go.

        Raises:
            TrialError: A divergence is infinite or NaN.
        """
        kept = self._structure.select({group: scores}, {group: units})
        key = group, kept[group].cpu().numpy().tobytes()
        if key not in self._known:
            self._known[key] = self._compared(kept)
        return self._known[key]

    def _predicted(self, network: nn.Module, *, as_it_is: bool) -> Any:
        """A network's outputs.

        Batch norms, those of the dense model too, take the statistics of the samples unless the network is taken as it
        is, as if they were recalibrated: so what they are off by is the same on both sides.
        """
        for norm in (m for m in network.modules() if isinstance(m, _BatchNorm)):
            norm.training = not as_it_is  # has no modules of its own, so ``train()`` does no more, slowly
        with torch.no_grad():
            return self._predict(network)

    def _compared(self, kept: Mapping[str, Tensor]) -> tuple[float, float]:
        network = self._structure.cut(self._network, kept, share=True)
        recovered = self._recover(Pruned(network, kept))
        if recovered not in self._dense:
            whole = self._structure.cut(self._network, {}, share=True)
            self._dense[recovered] = self._predicted(whole, as_it_is=recovered)
        dense, pruned = self._dense[recovered], self._predicted(network, as_it_is=recovered)
        each = divergences(self._task, pruned, dense, self._targets).double()
        divergence = mean(self._task, each, dense, self._targets)
        if not divergence.isfinite():
            raise TrialError("the outputs are not all finite")
        agreement = agreements(self._task, pruned, dense, self._targets).double()
        return max(0.0, float(divergence)), float(mean(self._task, agreement, dense, self._targets))
