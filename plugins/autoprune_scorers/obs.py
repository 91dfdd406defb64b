"""Importance by what the layers that read a unit cannot make up for: Optimal Brain Surgeon, unit by unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Scorer

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Group, ScoreContext


class OBS(Scorer):
    """Error of the layers that read a unit when it is cut, after their other weights have made up for it.

    Optimal Brain Surgeon for whole units, as in ZipLM (arXiv:2302.04089) and DarwinLM (arXiv:2502.07780). Of each
    convolution or linear layer W that reads the group, H is the inverse of its inputs' damped covariance. The unit of
    least tr(W_J (H_JJ)⁻¹ W_Jᵀ), J being its inputs, goes; W −= W_J (H_JJ)⁻¹ H_J: and H −= H_:J (H_JJ)⁻¹ H_J: ; and so
    on, where 128 units or more are left one in 64 of them at a time. A score is the readers' error when that unit and
    all below it are gone, each reader's relative to the variance of its outputs: what recovery ``repair`` starts from.
    It needs no labels and no gradients.

    Covariances are centred, as a bias or a norm behind a layer takes up what is constant; for linear layers without a
    bias they are second moments. Readers that share their weight, or that are not called as modules
    (``nn.MultiheadAttention``, recurrent layers), do not count; a group without any other is refused, as are blocks
    and masks (each output of a layer would take an elimination of its own). Beside one batch of 32 samples it holds
    about 2 GiB at most.
    """

    name = "obs"

    samples: int = Field(default=256, ge=8, description="Train samples whose activations count; no labels.")
    rows: int = Field(default=8000, ge=64, description="Random positions of a layer's outputs that count, about.")
    damping: float = Field(
        default=1e-3, gt=0, description="Pull towards the weights as they are, relative to the inputs' mean variance."
    )

    def score(self, group: Group, ctx: ScoreContext) -> Tensor:
        """Relative error of the readers when the unit and all of lower score are gone, float64 of shape (U,).

        Raises:
            TrialError: No reader can be watched, what they read is constant, or their moments take too much memory.
        """
        from autoprune_scorers._readers import errors

        if reason := self.refuses(group):
            raise TrialError(reason)
        key = ("obs", self.samples, self.rows, self.damping)
        scored = ctx.memo(key, lambda: errors(ctx, samples=self.samples, rows=self.rows, damping=self.damping))
        if isinstance(known := scored[group.name], str):
            raise TrialError(f"{known}; use l1, l2 or taylor")
        return known

    def refuses(self, group: Group) -> str | None:
        """Why it cannot rank a group: nothing reads its units; None when something does."""
        if group.owned or group.masked:
            return f"obs ranks what layers read, not the {group.granularity}s of {group.name!r}; use l1 or taylor"
        if any(part.role == "input" for part in group.slices):
            return None
        return f"no weight reads group {group.name!r}, so obs cannot rank it"
