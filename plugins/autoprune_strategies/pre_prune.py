"""Cut at initialisation, then train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Candidate, Recoveries, Strategy
from autoprune.toolkit.training import Training, train
from autoprune_strategies._stages import cut_further, recovered, refusal

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Data, PruneContext, Pruned


class PrePrune(Training, Strategy):
    """Ranks and cuts the untrained network, and trains what is left: no trained weight is used.

    Lee et al., "SNIP: Single-shot Network Pruning based on Connection Sensitivity", arXiv:1810.02340, with the scorer
    taylor; any other scorer that ranks untrained weights will do (Wang et al., "Picking Winning Tickets Before Training
    by Preserving Gradient Flow", arXiv:2002.07376, compare some). Each trial begins with weights of its own.
    """

    name = "pre-prune"

    epochs: float = Field(default=10.0, gt=0, description="Passes over the train split; a fraction is fine.")
    lr: float = Field(default=0.05, gt=0, description="Learning rate of the first step.")
    recover: Recoveries = Field(default=(), description="Runs after the training: one, or several in sequence.")

    def prune(self, candidate: Candidate, ctx: PruneContext) -> Pruned:
        """Rank and cut the untrained network, train, recover.

        Raises:
            TrialError: The model's source has no untrained weights, or the loss became infinite or NaN.
        """
        pruned, untrained = ctx.start(), ctx.build().state_dict()
        if _equal(untrained, ctx.dense.state_dict()):
            raise TrialError("the model is built with its trained weights, so it cannot be pruned before training")
        # An exported graph holds fewer tensors than the model that it is of, and constants of its own.
        missing = pruned.network.load_state_dict(untrained, strict=False).missing_keys
        if stale := sorted({name for name, _ in pruned.network.named_parameters()}.intersection(missing)):
            raise TrialError(f"built untrained, the model has no {stale[0]}, so it cannot be pruned before training")
        pruned = cut_further(pruned, candidate.cut_units, ctx)
        train(pruned.network, ctx, self)
        recovered(pruned, self.recover, ctx)
        return pruned

    def refuses(self, data: Data) -> str | None:
        """Why it cannot train on that data, or a recovery refuses it; None when neither holds."""
        return super().refuses(data) or refusal(data, self.recover)


def _equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    import torch

    return all(torch.equal(tensor, second[name].to(tensor.device)) for name, tensor in first.items() if name in second)
