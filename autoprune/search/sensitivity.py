"""How sensitive a group is: one forward pass for each of a few cuts of it alone, no labels, no recovery.

Batch norms use the statistics of the batch meanwhile, which is what recalibrating them would come to. The divergence of
the predictions from the dense model's adds up over groups far better than accuracy does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax
from torch.nn.modules.batchnorm import _BatchNorm

from autoprune.errors import TrialError
from autoprune.plugin import Sensitivity
from autoprune.search.jobs import Probe
from autoprune.search.space import BoundedGroup, Space
from autoprune.structure import Structure

_SHARES = (1 / 3, 2 / 3, 1.0)
"""Of the most units that may go, what the probes of a group cut."""
COMPARED_CUTS = 2
"""How many of them, the largest ones, scorers are compared by."""
COMPARED_SAMPLES = 32
"""Validation samples that scorers are compared on. All of them meet the same ones, so few will do: on five networks,
what all cuts on 256 samples choose is better by 4 % of the divergence, on average."""


Predict = Callable[[nn.Module], Tensor]


def probes(space: Space, samples: int) -> list[Probe]:
    """Every group that is searched, by every scorer."""
    return [
        Probe(scorer=scorer, group=bounded.group.name, cut_units=cuts(bounded), samples=samples)
        for scorer in space.scorers
        for bounded in space.groups
        if bounded.searched
    ]


class Prober:
    """Measures how sensitive groups are. A cut is measured once, whoever asks and whichever scores chose it."""

    def __init__(self, structure: Structure, network: nn.Module, predict: Predict) -> None:
        """Measures how sensitive groups are.

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

    def __call__(self, group: str, scores: Tensor, cut_units: Sequence[int]) -> Sensitivity:
        """Measure one.

        Args:
            group: Its name.
            scores: Importance of its units, (U,).
            cut_units: How many units go, one cut after the other.

        Raises:
            TrialError: A prediction is infinite or NaN.
        """
        measured = []
        for units in cut_units:
            kept = self._structure.select({group: scores}, {group: units})
            key = group, kept[group].cpu().numpy().tobytes()
            if key not in self._known:
                self._known[key] = self._compared(kept)
            measured.append(self._known[key])
        return Sensitivity(
            cut_units=tuple(cut_units),
            divergence=tuple(divergence for divergence, _ in measured),
            agreement=tuple(agreement for _, agreement in measured),
        )

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
        """Divergence from the dense predictions, and share of the samples that still have the dense label."""
        dense, pruned = self._dense, self._predicted(kept)
        divergence = kl_div(pruned, dense, reduction="batchmean", log_target=True)
        if not divergence.isfinite():
            raise TrialError("the predictions are not all finite")
        agreement = (pruned.argmax(dim=1) == dense.argmax(dim=1)).double().mean()
        return max(0.0, float(divergence)), float(agreement)


def cuts(bounded: BoundedGroup) -> tuple[int, ...]:
    """Units that the probes of a group cut."""
    step, (_, most) = bounded.group.step, bounded.cuts
    return tuple(dict.fromkeys(max(1, round(share * most / step)) * step for share in _SHARES))
