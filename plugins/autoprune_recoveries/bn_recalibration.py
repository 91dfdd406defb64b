"""Measure the batch norms' statistics anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from autoprune.plugin import Recovery

if TYPE_CHECKING:
    from autoprune.plugin import Data, PruneContext, Pruned


class BatchNormRecalibration(Recovery):
    """Replaces the running statistics of every batch norm by those of the pruned network.

    A cut shifts the activations that later batch norms saw in training; a few forward passes mend that without
    touching a weight. Li et al., "EagleEye", arXiv:2007.02491 (adaptive batch normalisation). A network without
    batch norms is left as it is.
    """

    name = "bn-recalibration"

    samples: int = Field(default=512, ge=2, description="Train samples that the statistics are taken over.")
    batch_size: int = Field(default=128, ge=2, description="Samples in one forward pass.")

    def recover(self, pruned: Pruned, ctx: PruneContext) -> None:
        """Average the batch statistics over the samples; only batch norms are in train mode meanwhile."""
        import torch
        from torch.nn.modules.batchnorm import _BatchNorm

        network = pruned.network
        norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
        if not norms:
            return
        samples = min(self.samples, len(ctx.data.train))
        if samples > self.batch_size:
            samples -= samples % self.batch_size  # a shorter last batch would weigh as much as a full one
        momenta = [norm.momentum for norm in norms]
        predictor = ctx.predictor(network)
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain average over all batches, not an exponential one
                norm.train()
            with torch.no_grad():
                for inputs, _ in ctx.data.train.batches(
                    self.batch_size, samples=samples, device=ctx.device, generator=ctx.generator()
                ):
                    inputs.feed(predictor)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
                norm.eval()

    def refuses(self, data: Data) -> str | None:
        """Why there are no statistics on that data; None when there are."""
        if len(data.train) < 2:
            return f"statistics take 2 train samples or more; there are {len(data.train)}"
        return None
