"""The sampler that knows pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from autoprune.plugin import Sampler, SamplerContext

if TYPE_CHECKING:
    import optuna


class SensitivitySampler(Sampler):
    """Spends what each group tolerates: measured, allocated exactly, corrected by every trial.

    Between the first trials, each group alone loses two thirds, all and a third of what it may, and the divergence of
    the predictions is measured in one forward pass each (no labels, no recovery). Divergence adds up over groups, so
    the cuts that do least damage at any price of size can be computed exactly. A Gaussian process learns how trials
    differ from that prediction, and what other knobs do: learning rates, ranks, one of several strategies. Of
    allocations and of small moves around the front, the candidate that is expected to add most to the hypervolume is
    tried. Where knobs change something at every value, the first three trials per knob, at most twelve, and one in four
    of the others go evenly through their values instead.
    """

    name = "sensitivity"

    samples: int = Field(default=64, ge=8, description="Validation samples that sensitivity is measured on.")
    allocation: bool = Field(default=True, description="Propose exact allocations of the measured sensitivity.")
    surrogate: bool = Field(default=True, description="Predict candidates and choose among them; else at random.")
    moves: bool = Field(default=True, description="Propose small moves around the front.")

    @property
    def probe_samples(self) -> int:
        """Validation samples that sensitivity is measured on."""
        return self.samples

    def build(self, ctx: SamplerContext) -> optuna.samplers.BaseSampler:
        """Any number of objectives."""
        from autoprune_samplers._guided import Guided
        from autoprune_samplers._proposer import Pieces

        return Guided(ctx, Pieces(allocation=self.allocation, surrogate=self.surrogate, moves=self.moves))
