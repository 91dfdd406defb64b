"""How long a model takes, against the dense one at the same moment."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from pydantic import Field

from autoprune.plugin import Cost, EvaluationContext, Evaluator, Inputs, Measured, Metric

if TYPE_CHECKING:
    from torch import nn


class Latency(Evaluator):
    """Times one forward pass of the bare network, in turn with the dense one.

    Input is a normalised batch that already is on the device. The two networks take turns, and so does which of them
    goes first, so that what slows the machine down hits both: the ratio holds where milliseconds wander.
    """

    name = "latency"
    metrics = (
        Metric("latency_ms", "ms", "minimize", Cost.TIMING, "Time of one batch: median and quartiles."),
        Metric(
            "latency_ratio",
            "fraction of dense",
            "minimize",
            Cost.TIMING,
            "Time of one batch over the dense model's right before or after it: median and quartiles.",
        ),
    )

    batch_size: int = Field(default=64, ge=1, description="Samples in the timed batch.")
    repeats: int = Field(default=20, ge=2, description="Timed passes of each network, at least.")
    seconds: float = Field(
        default=1.0, ge=0, allow_inf_nan=False, description="Goes on timing for at least so long, for quick networks."
    )
    warmup: int = Field(default=3, ge=0, description="Passes of each network before the first timed one.")

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Time the network and the dense network in alternating order."""
        import torch

        def timed(network: nn.Module) -> float:
            start = time.perf_counter()
            inputs.feed(network)
            if ctx.device.type == "cuda":
                torch.cuda.synchronize(ctx.device)
            return 1e3 * (time.perf_counter() - start)

        with torch.inference_mode():
            inputs = _network_inputs(model, ctx, self.batch_size)
            network, dense = _network(model), _network(ctx.dense)
            for _ in range(self.warmup):
                timed(network), timed(dense)
            times, dense_times = _in_turn(
                lambda: timed(network), lambda: timed(dense), repeats=self.repeats, seconds=self.seconds
            )
        ratios = [ours / theirs for ours, theirs in zip(times, dense_times, strict=True)]
        return {"latency_ms": _quartiles(times), "latency_ratio": _quartiles(ratios)}


def _in_turn(
    one: Callable[[], float], other: Callable[[], float], *, repeats: int, seconds: float
) -> tuple[list[float], list[float]]:
    """Results of both, called in turn and in alternating order.

    The number of pairs is even: each order comes as often, so that the median favours none.
    """
    ones: list[float] = []
    others: list[float] = []
    end = time.perf_counter() + seconds
    while len(ones) < repeats or time.perf_counter() < end:
        ones.append(one())
        others.append(other())
        others.append(other())
        ones.append(one())
    return ones, others


def _quartiles(values: Sequence[float]) -> Measured:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Measured(value=middle, low=low, high=high, samples=len(values))


def _network(predictor: nn.Module) -> nn.Module:
    return cast("nn.Module", predictor.network)


def _network_inputs(predictor: nn.Module, ctx: EvaluationContext, size: int) -> Inputs:
    """What the predictor hands to its network for exactly ``size`` samples, some of them twice if need be."""
    import torch

    def fetch() -> Inputs:
        split = ctx.data.split(ctx.split)
        inputs, _ = split.fetch(torch.arange(size) % len(split))
        return inputs.to(ctx.device)

    caught: list[Inputs] = []
    hook = _network(predictor).register_forward_pre_hook(
        lambda _, args, kwargs: caught.append(Inputs(args, kwargs)), with_kwargs=True
    )
    try:
        ctx.memo(("autoprune_evaluators.latency", str(ctx.device), ctx.split, size), fetch).feed(predictor)
    finally:
        hook.remove()
    # Other evaluators may want channels last. What is timed must not hang on that.
    return caught[0].map(lambda tensor: tensor.contiguous())
