"""Win back what a cut cost by least squares: every layer to the dense network's outputs, without training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Recovery

if TYPE_CHECKING:
    from autoprune.plugin import Data, PruneContext, Pruned


class Repair(Recovery):
    """Fits each layer of the pruned network to the dense network's outputs, in closed form.

    In the order of execution every convolution and linear layer gets the ridge solution that maps its own inputs, those
    of the pruned and already repaired network, to what the dense layer put out for the same samples. What a residual
    stream has lost so far is taken into the target, so that block output plus shortcut equals the dense one's. A
    constant goes into the layer's bias or the batch norm behind it. No labels, no gradients, one forward pass of each
    network; the dense one's once per study. A fit that is worse on held-out rows than the cut weights is not taken.
    Recurrent layers, attention that computes with its weights by itself (``nn.MultiheadAttention``) and layers that run
    several times stay as they were cut.
    """

    name = "repair"

    samples: int = Field(default=256, ge=8, description="Train samples whose activations are fitted; no labels.")
    rows: int = Field(default=8000, ge=64, description="Positions of a layer's outputs that its fit uses, at most.")
    damping: float = Field(
        default=1e-3, gt=0, description="Pull towards the cut weights, relative to the inputs' mean variance."
    )

    def recover(self, pruned: Pruned, ctx: PruneContext) -> None:
        """Change weights, biases and norms in place.

        Raises:
            TrialError: The pruned network has no layer that can be fitted, as an exported graph has none.
        """
        import torch

        from autoprune_recoveries._fitting import Fit
        from autoprune_recoveries._reference import Reference

        reference = ctx.memo((self.name, self.samples, self.rows), lambda: Reference.of(ctx, self.samples, self.rows))
        network = pruned.network
        if not reference.layers.keys() & {name for name, _ in network.named_modules()}:
            raise TrialError("the pruned network has no convolution or linear layer to fit; take another recovery")
        kept = {name: ctx.rows(pruned, name).to(ctx.device) for name in reference.layers}
        masked = {group.masked for group in ctx.groups if group.masked and group.name in pruned.kept}
        fit = Fit(network, reference, kept, masked, self.damping)
        with torch.no_grad(), fit.hooked():
            reference.inputs.feed(ctx.predictor(network))

    def recover_alone(self, pruned: Pruned, ctx: PruneContext) -> bool:
        """Fit the layers that read the one group that was cut, by sums of products of the dense network's run."""
        from autoprune_recoveries._alone import Alone
        from autoprune_recoveries._reference import Reference

        key = (self.name, self.samples, self.rows)
        reference = ctx.memo(key, lambda: Reference.of(ctx, self.samples, self.rows))
        alone = ctx.memo((*key, "alone"), lambda: Alone.of(ctx, reference))
        (cut,) = pruned.kept
        group = next(group for group in ctx.groups if group.name == cut)
        return alone.fit(pruned.network, group, pruned.kept[cut], damping=self.damping)

    def refuses(self, data: Data) -> str | None:
        """Why nothing can be fitted on that data; None when it can."""
        if len(data.train) < 8:
            return f"a fit takes 8 train samples or more; there are {len(data.train)}"
        return None
