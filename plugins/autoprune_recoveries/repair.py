"""Win back what a cut cost by least squares: every layer to the dense network's outputs, without training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field

from autoprune.plugin import Recovery
from autoprune_recoveries.bn_recalibration import BatchNormRecalibration

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.plugin import Data, PruneContext, Pruned
    from autoprune_recoveries._reference import Reference


_FEW = 256
"""Samples with which the pull is what the option says."""


class Repair(Recovery):
    """Fits each layer of the pruned network to the dense network's outputs, in closed form.

    In the order of execution every convolution and linear layer gets the ridge solution that maps its own inputs, those
    of the pruned and already repaired network, to what the dense layer put out for the same samples. What a residual
    stream has lost so far is taken into the target, so that block output plus shortcut equals the dense one's. A
    constant goes into the layer's bias or the batch norm behind it. Where nothing but a ReLU reads the outputs,
    whatever it makes zero is as good as what it made zero in the dense network. No labels, no gradients, one forward
    pass of each network; the dense one's once per study. A fit that is worse on held-out rows than the cut weights is
    not taken. A layer that runs several times is fitted to what it put out the first time, if the network is seen to be
    better for it. In the end the network's outputs are compared with the dense one's: on the
    few samples that most layers have held out, or on 64 others where layers have few rows for their inputs, such as
    those behind a global pooling; if they came out worse, the norms' statistics alone are taken anew. Exported graphs,
    weight norms and ``nn.MultiheadAttention`` are fitted, too, and the gates of recurrent layers, as if the states
    before a step were the dense ones. Weights that are no product's alone or computed by code, and recurrent layers
    with a projection or packed sequences, stay as they were cut. A network with no other layers gets its batch norms'
    statistics anew, as ``bn-recalibration`` does it.

    Memory besides that of the forward passes: the dense outputs that are kept, 0.5 GB at most; for the layer that is
    being fitted 2^25 numbers of its inputs, less than 2 GB of its sums and a few copies of its weights in float64; a
    copy of the network, two where layers run several times. Wide and deep networks are fitted on fewer rows, large
    inputs on fewer samples, to stay within.
    """

    name = "repair"

    samples: int = Field(default=_FEW, ge=8, description="Train samples whose activations are fitted; no labels.")
    rows: int = Field(default=8000, ge=64, description="Positions of a layer's outputs that its fit uses, at most.")
    damping: float = Field(
        default=0.1,
        gt=0,
        description="Pull towards the cut weights, relative to the inputs' mean variance, with 256 samples or fewer; "
        "with more it is weaker by as much.",
    )

    def recover(self, pruned: Pruned, ctx: PruneContext) -> None:
        """Change weights, biases and norms in place."""
        import math

        from autoprune_recoveries._whole import Whole

        reference = self._reference(ctx)
        if not reference.layers and not reference.recurrent:
            BatchNormRecalibration(samples=self.samples).recover(pruned, ctx)
            return
        network = pruned.network
        whole = ctx.memo((*self._key, "whole"), lambda: Whole.of(ctx, reference))
        unrepaired = whole.error(ctx, network)
        if not 0 < unrepaired < math.inf:  # there is nothing to compare, by which fits of several runs are chosen
            self._fit(pruned, ctx, reference.once())
            return
        before = _state(network)
        self._fit(pruned, ctx, reference)
        error = whole.error(ctx, network)
        if reference.shared:  # what is best for a layer's first run need not be for its next ones
            fitted = _state(network)
            network.load_state_dict(before)
            self._fit(pruned, ctx, reference.once())
            if error <= (once := whole.error(ctx, network)):
                network.load_state_dict(fitted)
            error = min(error, once)
        if error < unrepaired:
            return
        network.load_state_dict(before)
        BatchNormRecalibration(samples=self.samples).recover(pruned, ctx)
        if whole.error(ctx, network) >= unrepaired:
            network.load_state_dict(before)

    def _fit(self, pruned: Pruned, ctx: PruneContext, reference: Reference) -> None:
        import torch

        from autoprune_recoveries._fitting import Fit

        masked = {group.masked for group in ctx.groups if group.masked and group.name in pruned.kept}
        fit = Fit(pruned.network, reference, reference.kept(ctx, pruned), masked, self._damping(reference))
        with torch.no_grad(), fit:
            reference.inputs.feed(ctx.predictor(pruned.network))

    def recover_alone(self, pruned: Pruned, ctx: PruneContext) -> bool:
        """Fit the layers that read the one group that was cut, by sums of products of the dense network's run."""
        from autoprune_recoveries._alone import Alone

        reference = self._reference(ctx)
        alone = ctx.memo((*self._key, "alone"), lambda: Alone.of(ctx, reference))
        (cut,) = pruned.kept
        group = next(group for group in ctx.groups if group.name == cut)
        return alone.fit(pruned.network, group, pruned.kept[cut], damping=self._damping(reference))

    def final(self) -> Self:
        """At least 1,024 samples and 16,000 rows, for the front's members."""
        return self.model_copy(update={"samples": max(self.samples, 1024), "rows": max(self.rows, 16_000)})

    def refuses(self, data: Data) -> str | None:
        """Why nothing can be fitted on that data; None when it can."""
        if len(data.train) < 8:
            return f"a fit takes 8 train samples or more; there are {len(data.train)}"
        return None

    def _damping(self, reference: Reference) -> float:
        return self.damping * min(1.0, _FEW / len(reference.inputs))

    @property
    def _key(self) -> tuple[str, int, int]:
        return self.name, self.samples, self.rows

    def _reference(self, ctx: PruneContext) -> Reference:
        from autoprune_recoveries._reference import Reference

        return ctx.memo(self._key, lambda: Reference.of(ctx, self.samples, self.rows))


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in network.state_dict().items()}
