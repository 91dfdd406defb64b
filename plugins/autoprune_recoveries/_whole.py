"""How far a network's outputs are from the dense one's, on samples that no layer was fitted to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.plugin import Inputs, PruneContext

_SAMPLES = 64


@dataclass(frozen=True)
class Whole:
    """What the dense network puts out for them."""

    inputs: Inputs
    outputs: list[Tensor]
    """Its floating-point tensors."""

    @classmethod
    def of(cls, ctx: PruneContext, order: Tensor) -> Whole | None:
        """Of the first of some train samples; None where there is none.

        Args:
            ctx: What the recovery gets.
            order: Numbers of samples that nothing is fitted to, (N,).
        """
        if not len(order):
            return None
        inputs = ctx.data.train.fetch(order[:_SAMPLES])[0].to(ctx.device)
        return cls(inputs, _outputs(ctx, inputs, ctx.start().network.to(ctx.device)))

    def error(self, ctx: PruneContext, network: nn.Module) -> float:
        """Squared error of a network's outputs; infinite where they are of another form, or not finite."""
        made = _outputs(ctx, self.inputs, network)
        if [each.shape for each in made] != [each.shape for each in self.outputs]:
            return math.inf
        error = sum(float((a - b).double().square().sum()) for a, b in zip(made, self.outputs, strict=True))
        return error if math.isfinite(error) else math.inf


def _outputs(ctx: PruneContext, inputs: Inputs, network: nn.Module) -> list[Tensor]:
    import torch
    from torch.utils import _pytree

    with torch.no_grad():
        made: list[Any] = _pytree.tree_leaves(inputs.feed(ctx.predictor(network)))
    return [each for each in made if isinstance(each, torch.Tensor) and each.is_floating_point()]
