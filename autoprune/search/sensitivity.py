"""How sensitive a group is: one forward pass for each of a few cuts of it alone, no labels, no recovery.

Batch norms use the statistics of the batch meanwhile, which is what recalibrating them would come to. The divergence of
the predictions from the dense model's adds up over groups far better than accuracy does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax
from torch.nn.modules.batchnorm import _BatchNorm

from autoprune.errors import TrialError
from autoprune.plugin import Sensitivity
from autoprune.search.jobs import Probe
from autoprune.search.space import BoundedGroup, Space

_SHARES = (1 / 3, 2 / 3, 1.0)
"""Of the most units that may go, what the probes of a group cut."""


def probes(space: Space, samples: int) -> list[Probe]:
    """Every group that is searched, by every scorer."""
    return [
        Probe(scorer=scorer, group=bounded.group.name, cut_units=_cuts(bounded), samples=samples)
        for scorer in space.scorers
        for bounded in space.groups
        if bounded.searched
    ]


@dataclass(frozen=True)
class Reference:
    """The dense model's predictions."""

    log_shares: Tensor
    """Of shape (N, C)."""
    offset: float
    """Divergence that the statistics of one batch alone make, with no unit cut, in nats."""


Cut = Callable[[Mapping[str, int]], nn.Module]
Predict = Callable[[nn.Module], Tensor]


def reference(*, cut: Cut, predict: Predict) -> Reference:
    """What probes are compared with; the arguments are those of `sensitivity`."""
    dense = Reference(log_softmax(predict(cut({})).double(), dim=1), 0.0)
    return Reference(dense.log_shares, _compared(cut({}), predict, dense)[0])


def sensitivity(probe: Probe, *, dense: Reference, cut: Cut, predict: Predict) -> Sensitivity:
    """Measure it.

    Args:
        probe: Says what to cut.
        dense: What to compare with.
        cut: Units that go per group, to a network of its own.
        predict: Class scores (N, C) of a network.

    Raises:
        TrialError: A prediction is infinite or NaN.
    """
    measured = [_compared(cut({probe.group: units}), predict, dense) for units in probe.cut_units]
    return Sensitivity(
        cut_units=probe.cut_units,
        divergence=tuple(max(0.0, divergence - dense.offset) for divergence, _ in measured),
        agreement=tuple(agreement for _, agreement in measured),
    )


def _compared(network: nn.Module, predict: Predict, dense: Reference) -> tuple[float, float]:
    """Divergence from the dense predictions, and share of the samples that still have the dense label."""
    for norm in (m for m in network.modules() if isinstance(m, _BatchNorm)):
        norm.train()
    pruned = log_softmax(predict(network).double(), dim=1)
    divergence = kl_div(pruned, dense.log_shares, reduction="batchmean", log_target=True)
    if not divergence.isfinite():
        raise TrialError("the predictions are not all finite")
    agreement = (pruned.argmax(dim=1) == dense.log_shares.argmax(dim=1)).double().mean()
    return float(divergence), float(agreement)


def _cuts(bounded: BoundedGroup) -> tuple[int, ...]:
    step, (_, most) = bounded.group.step, bounded.cuts
    return tuple(dict.fromkeys(max(1, round(share * most / step)) * step for share in _SHARES))
