"""Two networks measured in turn: what slows the machine down hits both, so a ratio holds where seconds wander."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from autoprune.plugin import Difference, EvaluationContext, Inputs, Measured

if TYPE_CHECKING:
    import torch
    from torch import nn

_AGAIN = 4
"""Times that the dense model is timed on, where it is not as quick as itself."""
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365)
"""97.5 % quantiles of Student's t, of one degree of freedom and more."""


@dataclass
class Pairs:
    """What a network and the dense one took, right after each other."""

    ours: list[float] = field(default_factory=list)
    dense: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> Measured:
        """Ours over the dense model's."""
        return middle([ours / dense for ours, dense in zip(self.ours, self.dense, strict=True)])

    @property
    def gain(self) -> Measured:
        """The dense model's over ours."""
        return middle([dense / ours for ours, dense in zip(self.ours, self.dense, strict=True)])

    @property
    def difference(self) -> Difference:
        """Ours less the dense model's."""
        found, half = _middle([ours - dense for ours, dense in zip(self.ours, self.dense, strict=True)])
        return Difference(value=found, low=found - half, high=found + half)

    def scaled(self, scale: Callable[[float], float]) -> Pairs:
        """The same in another unit."""
        return Pairs([scale(value) for value in self.ours], [scale(value) for value in self.dense])

    def measured(self, name: str, ratio: str, *, of_dense: bool) -> dict[str, Measured]:
        """Two metrics: ours, and its ratio to the dense model's, each with its difference from the dense model."""
        ours, share = middle(self.ours), self.ratio
        if of_dense:
            return {name: ours, ratio: share}
        low, high = ((end or 0) - 1 for end in (share.low, share.high))
        apart = Difference(value=share.value - 1, low=low, high=high)
        return {
            name: ours.model_copy(update={"difference": self.difference}),
            ratio: share.model_copy(update={"difference": apart}),
        }


def in_turn(
    ours: Callable[[], float], dense: Callable[[], float], *, repeats: int, seconds: float, of_dense: bool = False
) -> Pairs:
    """Results of both, called in turn and in alternating order.

    The number of pairs is even: each order comes as often, so that the median favours none. The dense model against
    itself is measured on, up to `_AGAIN` times as long, until 1 is within the interval of its ratio: before that no
    ratio of this machine is to be believed.

    Args:
        ours: Measures the network once.
        dense: Measures the dense network once.
        repeats: Pairs, at least.
        seconds: To go on for, at least.
        of_dense: Whether both are the dense network.
    """
    pairs = Pairs()
    for _ in range(1 + _AGAIN if of_dense else 1):
        end, most = time.perf_counter() + seconds, len(pairs.ours) + repeats
        while len(pairs.ours) < most or time.perf_counter() < end:
            pairs.ours.append(ours())
            pairs.dense.append(dense())
            pairs.dense.append(dense())
            pairs.ours.append(ours())
        ratio = pairs.ratio
        if (ratio.low or 0) <= 1 <= (ratio.high or math.inf):
            break
    return pairs


def middle(values: Sequence[float]) -> Measured:
    """Median of positive values, two at least, with a 95 % interval that allows for what drifts.

    Values in a row are alike, so their spread says too little. They are split, as they came, into eight parts, as many
    as there are where there are fewer, and the parts' medians are what is spread (batch means: Law and Kelton,
    *Simulation Modeling and Analysis*, section 9.5.3), on a log scale.
    """
    found, half = _middle([math.log(value) for value in values])
    value = math.exp(found)
    low, high = min(value, math.exp(found - half)), max(value, math.exp(found + half))
    return Measured(value=value, low=low, high=high, samples=len(values))


def _middle(values: Sequence[float]) -> tuple[float, float]:
    """Median and half the width of its interval."""
    parts = min(len(values), len(_T) + 1)
    ends = [len(values) * part // parts for part in range(parts + 1)]
    medians = [statistics.median(values[low:high]) for low, high in itertools.pairwise(ends)]
    half = _T[parts - 2] * statistics.stdev(medians) / math.sqrt(parts)
    return statistics.median(values), half


def milliseconds(run: Callable[[], object], device: torch.device) -> float:
    """How long it takes until all that it starts is done."""
    import torch

    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1e3 * (time.perf_counter() - start)


def bare(predictor: nn.Module) -> nn.Module:
    """The network inside of a predictor."""
    return cast("nn.Module", predictor.network)


def network_inputs(predictor: nn.Module, ctx: EvaluationContext, size: int) -> Inputs:
    """What the predictor hands to its network for exactly ``size`` samples, some of them twice if need be."""
    import torch

    def fetch() -> Inputs:
        split = ctx.data.split(ctx.split)
        inputs, _ = split.fetch(torch.arange(size) % len(split))
        return inputs.to(ctx.device)

    caught: list[Inputs] = []
    hook = bare(predictor).register_forward_pre_hook(
        lambda _, args, kwargs: caught.append(Inputs(args, kwargs)), with_kwargs=True
    )
    try:
        with torch.inference_mode():
            ctx.memo(("autoprune_evaluators.timing", str(ctx.device), ctx.split, size), fetch).feed(predictor)
    finally:
        hook.remove()
    # Other evaluators may want channels last. What is timed must not hang on that.
    return caught[0].map(lambda tensor: tensor.contiguous())
