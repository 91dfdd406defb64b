"""Whether a model tells which samples it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Cost, Data, EvaluationContext, Inputs, Measured, Metric
from autoprune.toolkit.samples import SampleEvaluator, losses

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune_evaluators._membership import Scores

_FEWEST = 10
"""Non-members that may be taken for members at the asked rate: fewer say little of a rate."""


class MembershipInference(SampleEvaluator):
    """How well an attacker tells samples of the training split from others, by the model's outputs and true targets.

    `membership_auc`, the area under the attacker's ROC curve, is 0.5 where nothing leaks; DeLong's 95 % interval.
    `membership_advantage` is the rate of members that are found less that of others taken for members, at a threshold
    that was chosen on other samples (two halves, each by the other's): about 0 where nothing leaks, 1 where all does.
    Yeom et al., *Privacy risk in machine learning*, arXiv:1709.01604. A mean hides whom it is easy to find:
    ``fpr: 0.01`` adds `membership_tpr`, the rate of members found where so few others are taken for members (Carlini et
    al., *Membership inference attacks from first principles*, arXiv:2112.03570).

    It is right only if the dense model never saw the measured split, not the validation split either: weights that were
    trained on what is now held out make members of both sides, and nothing seems to leak. And it is the attack of an
    outsider who asks the model once for each sample; one with shadow models finds more.
    """

    name = "membership-inference"

    attack: Literal["loss", "modified-entropy"] = Field(
        default="loss",
        description="What is small for members: the task's loss, or, of one class per sample, the prediction's entropy"
        " where a wrong one counts as uncertain (Song and Mittal, arXiv:2003.10595).",
    )
    fpr: float | None = Field(
        default=None, gt=0, lt=1, description="Rate of others taken for members at which members are counted, too."
    )
    samples: int | None = Field(
        default=1000, ge=20, description="Samples of each split, a fixed random choice; as many as both have if null."
    )

    def declares(self, data: Data | None) -> tuple[Metric, ...]:  # noqa: ARG002  the options tell
        """Area and advantage, and the rate at ``fpr`` if that is asked for."""
        found = (
            Metric("membership_auc", "1", "minimize", Cost.FORWARD, "Area under a membership attack's ROC curve."),
            Metric("membership_advantage", "1", "minimize", Cost.FORWARD, "Members found less others taken for them."),
        )
        if self.fpr is None:
            return found
        told = f"Members found where {100 * self.fpr:g} % of others are taken for members."
        return (*found, Metric("membership_tpr", "fraction", "minimize", Cost.FORWARD, told))

    def refuses(self, data: Data) -> str | None:
        """Why there are too few samples; None where there are enough."""
        known = min(len(data.train), len(data.validation), self.samples or len(data.train))
        if self.fpr is not None and known * self.fpr < _FEWEST:
            return (
                f"{self.name}: of {known} samples, {100 * self.fpr:g} % are fewer than {_FEWEST}: ask for a larger fpr,"
                f" or samples: {round(_FEWEST / self.fpr)} where there are as many"
            )
        return None

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Score members and others, and compare.

        Raises:
            TrialError: ``modified-entropy`` of a task that does not choose one class per sample, or too few samples.
        """
        model, ctx = self.focused(model, ctx)
        found = self._scores(model, ctx)
        dense: Scores = self.kept(ctx, lambda: found if ctx.of_dense else self._scores(ctx.dense, ctx))
        return found.measured(None if ctx.of_dense else dense, fpr=self.fpr)

    def _scores(self, model: nn.Module, ctx: EvaluationContext) -> Scores:
        import torch

        from autoprune_evaluators._membership import Scores

        splits = (ctx.data.train, ctx.data.split(ctx.split))
        count = min(self.samples or len(splits[0]), *map(len, splits))
        alike = self.model_copy(update={"samples": count})
        with torch.inference_mode():
            members, others = (
                torch.cat([self._score(model, ctx, *batch) for batch in alike.batches(each)]).cpu()
                for each in (replace(ctx, split="train"), ctx)
            )
        if not bool(members.isfinite().all() and others.isfinite().all()):
            raise TrialError(f"{self.name}: the model gives what is no number")
        return Scores(members, others)

    def _score(self, model: nn.Module, ctx: EvaluationContext, inputs: Inputs, targets: Any) -> Tensor:
        from autoprune_evaluators._membership import certainty

        outputs = inputs.feed(model)
        if self.attack == "loss":
            return -losses(ctx.task, outputs, targets).double()
        return certainty(self.name, ctx.task, outputs, targets)

    def final(self) -> Self:
        """The same on as many samples as there are."""
        return self.model_copy(update={"samples": None})
