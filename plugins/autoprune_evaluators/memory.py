"""What a forward pass holds in memory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from autoprune.plugin import Cost, EvaluationContext, Evaluator, Measured, Metric
from autoprune_evaluators._timing import bare, network_inputs

if TYPE_CHECKING:
    from torch import nn


class _MemoryEvaluator(Evaluator):
    """Weighs a forward pass of the bare network over one batch."""

    needs = frozenset({"data"})

    batch_size: int = Field(default=1, ge=1, description="Samples in the pass.")

    def _measured(self, model: nn.Module, ctx: EvaluationContext, name: str, ratio: str) -> dict[str, float | Measured]:
        """Megabytes, and their ratio to the dense model's."""
        ours = self._bytes(model, ctx)
        key = (f"autoprune_evaluators.{self.name}", str(ctx.device), ctx.split, self.batch_size)
        dense: int = ctx.memo(key, lambda: ours if ctx.of_dense else self._bytes(ctx.dense, ctx))
        return {name: ours / 1e6, ratio: ours / dense}

    @abstractmethod
    def _bytes(self, model: nn.Module, ctx: EvaluationContext) -> int:
        """What a pass of the model holds."""


class ActivationMemory(_MemoryEvaluator):
    """The most bytes of activations that are alive at once in a forward pass: exact, the same on every machine.

    Each operation is followed as it runs: its outputs live until nothing holds them any more. Inputs and outputs of the
    network count, parameters and buffers do not, nor what a kernel needs for itself (see `peak-memory`). It is what
    decides whether a model runs on a small device (Lin et al., *MCUNet*, arXiv:2007.10319).
    """

    name = "activation-memory"
    metrics = (
        Metric("activation_mb", "MB", "minimize", Cost.TIMING, "Most activations alive at once, in 10⁶ bytes."),
        Metric("activation_ratio", "fraction of dense", "minimize", Cost.TIMING, "Of the dense model's most."),
    )

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Run the network once and follow what is alive."""
        return self._measured(model, ctx, "activation_mb", "activation_ratio")

    def _bytes(self, model: nn.Module, ctx: EvaluationContext) -> int:
        from autoprune_evaluators._alive import most_alive

        return most_alive(bare(model), network_inputs(model, ctx, self.batch_size))


class PeakMemory(_MemoryEvaluator):
    """The most bytes that PyTorch's allocator has given out in a forward pass, and the model's own.

    Measured on the device of the search, kernels' working memory included: what `activation-memory` can't know. Memory
    that libraries take from the system by themselves is not seen.
    """

    name = "peak-memory"
    metrics = (
        Metric("peak_memory_mb", "MB", "minimize", Cost.TIMING, "Model and most memory of a pass, in 10⁶ bytes."),
        Metric("peak_memory_ratio", "fraction of dense", "minimize", Cost.TIMING, "Of the dense model's most."),
    )

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Run the network once more and read the allocator's own account of it."""
        return self._measured(model, ctx, "peak_memory_mb", "peak_memory_ratio")

    def _bytes(self, model: nn.Module, ctx: EvaluationContext) -> int:
        from autoprune_evaluators._alive import held, most_allocated

        network, inputs = bare(model), network_inputs(model, ctx, self.batch_size)
        return held(network, inputs) + most_allocated(network, inputs, ctx.device)
