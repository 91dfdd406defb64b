"""Train the dense network with a penalty that pushes whole units towards zero, then cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from autoprune.plugin import Candidate, Recoveries, Strategy
from autoprune.toolkit.training import Training, train
from autoprune_strategies._penalty import penalty_of
from autoprune_strategies._stages import cut_further, recovered, refusal

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Data, PruneContext, Pruned


class SparseTraining(Training, Strategy):
    """Trains the dense network once per study under a sparsity penalty; each trial cuts the result and recovers.

    l1: Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", arXiv:1708.06519, on the
    scales of the batch norms (the scorer bn-scale ranks by them); a group without any is penalised by the weights that
    make its units. group-lasso: Wen et al., "Learning Structured Sparsity in Deep Neural Networks", arXiv:1608.03665,
    the Euclidean norm of each unit's weights, those that make it and those that read it.
    """

    name = "sparse-training"

    penalty: Literal["l1", "group-lasso"] = Field(
        default="l1", description="l1: of the batch norms' scales. group-lasso: of the norm of each unit's weights."
    )
    strength: float = Field(default=1e-4, gt=0, description="Factor of the penalty in the loss.")
    recover: Recoveries = Field(default=(), description="Wins back what the cut cost: one, or several in sequence.")

    def prune(self, candidate: Candidate, ctx: PruneContext) -> Pruned:
        """Rank and cut the network that was trained under the penalty, recover.

        Raises:
            TrialError: The loss became infinite or NaN.
        """
        key = f"{self.name} {self.model_dump_json(exclude={'recover'})}"
        pruned = ctx.start()
        pruned.network.load_state_dict(ctx.once(key, lambda: self._trained(ctx)))
        pruned = cut_further(pruned, candidate.cut_units, ctx)
        recovered(pruned, self.recover, ctx)
        return pruned

    def refuses(self, data: Data) -> str | None:
        """Why it cannot train on that data, or a recovery refuses it; None when neither holds."""
        return super().refuses(data) or refusal(data, self.recover)

    def _trained(self, ctx: PruneContext) -> Mapping[str, Tensor]:
        import torch

        network = ctx.start().network
        penalty = penalty_of(network, ctx.groups, self.penalty, self.strength)
        # Not the seed of the trial that comes first; the global generator is seeded by the study's here.
        seed = int(torch.randint(2**31, ()))
        train(network, replace(ctx, seed=seed), self, penalty=penalty)
        return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
