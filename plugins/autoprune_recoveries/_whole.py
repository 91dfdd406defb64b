"""How far a network's outputs are from the dense one's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoprune_recoveries._fitting import HELD_OUT

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.plugin import Inputs, PruneContext
    from autoprune_recoveries._reference import Reference

_SAMPLES = 64
_LEAST = 8


@dataclass(frozen=True)
class Whole:
    """A few samples, and what the dense network puts out for them."""

    inputs: Inputs
    outputs: list[Tensor]
    """Its floating-point tensors."""

    @classmethod
    def of(cls, ctx: PruneContext, reference: Reference) -> Whole:
        """Of others than those of the fits where those may follow chance, else of the first, which most hold out.

        Args:
            ctx: What the recovery gets.
            reference: What the fits are made of.
        """
        if reference.few and len(reference.others):
            inputs = ctx.data.train.fetch(reference.others[:_SAMPLES])[0].to(ctx.device)
        else:
            inputs = reference.inputs[: max(_LEAST, len(reference.inputs) // HELD_OUT)]
        return cls(inputs, _outputs(ctx, inputs, ctx.start().network.to(ctx.device)))

    def error(self, ctx: PruneContext, network: nn.Module) -> float:
        """Squared error of a network's outputs, but for those of another shape, such as what is cached of cut heads.

        Infinite where none is left, or one is not finite.
        """
        made = _outputs(ctx, self.inputs, network)
        if len(made) != len(self.outputs):
            return math.inf
        pairs = [(a, b) for a, b in zip(made, self.outputs, strict=True) if a.shape == b.shape]
        error = sum(float((a - b).double().square().sum()) for a, b in pairs)
        return error if pairs and math.isfinite(error) else math.inf


def _outputs(ctx: PruneContext, inputs: Inputs, network: nn.Module) -> list[Tensor]:
    import torch
    from torch.utils import _pytree

    with torch.no_grad():
        made: list[Any] = _pytree.tree_leaves(inputs.feed(ctx.predictor(network)))
    return [each for each in made if isinstance(each, torch.Tensor) and each.is_floating_point()]
