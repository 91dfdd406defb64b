"""Whether a model looks at what the dense model looks at.

Shapes use: N samples, and … for whatever a sample's first input is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from autoprune import DataError, TrialError
from autoprune.plugin import Cost, Data, EvaluationContext, Inputs, Measured, Metric
from autoprune.plugin.task import shapes
from autoprune.toolkit import intervals
from autoprune.toolkit.samples import SampleEvaluator

if TYPE_CHECKING:
    from torch import Tensor, nn

_KEPT_BYTES = 2**30
"""Attributions of the dense model that take more than this are computed anew for every model."""


class ExplanationAgreement(SampleEvaluator):
    """How alike a model and the dense one weigh the input's values: the mean Spearman rank correlation over samples.

    What a value adds to the score that the dense model predicts, by integrated gradients from a baseline: Sundararajan
    et al., *Axiomatic attribution for deep networks*, arXiv:1703.01365. 1 is the same order of all values, 0 none. A
    model to which all values of a sample are the same agrees by 0 there; samples where that holds of the dense model
    are left out. It needs no true targets. Its 95 % interval is over samples.
    """

    name = "explanation-agreement"
    needs = frozenset({"data", "gradients"})
    metrics = (
        Metric(
            "explanation_agreement",
            "rank correlation",
            "maximize",
            Cost.ATTACK,
            "Mean rank correlation of the inputs' attributions with the dense model's.",
        ),
    )

    steps: int = Field(default=16, ge=1, description="Gradients along the way from the baseline to the input.")
    baseline: Literal["zeros", "low"] = Field(
        default="zeros",
        description="Where the way starts, in input units: at zeros, or at the lower end of the data's bounds.",
    )
    samples: int | None = Field(
        default=256, ge=1, description="Samples to explain, a fixed random choice; the whole split if null."
    )
    batch_size: int = Field(default=64, ge=1, description="Samples in one pass.")

    def refuses(self, data: Data) -> str | None:
        """Why it cannot explain predictions from inputs like these; None when it can."""
        import torch

        if self.baseline == "low" and data.bounds is None:
            return f"{self.name}: baseline low is the lower end of the data's bounds, of which it has none"
        inputs, _ = data.validation.fetch(torch.zeros(1, dtype=torch.int64))
        return self._no_numbers(inputs.first)

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Explain the dense model's predictions by both models.

        Raises:
            DataError: Inputs are no real numbers, or have no bounds where those are asked for.
            TrialError: A model has no gradients, or the task predicts several numbers, or no class of a sample.
        """
        import torch

        model, ctx = self.focused(model, ctx)
        if fault := self.refuses(ctx.data):
            raise DataError(fault)
        found: list[Tensor] = []
        counted: list[Tensor] = []
        # In a search gradients may be off; what was fetched in inference mode is copied by the arithmetic.
        with torch.inference_mode(mode=False), torch.enable_grad():
            for (inputs, _), (classes, theirs) in zip(self.batches(ctx), self._of_dense(ctx), strict=True):
                ours = theirs if ctx.of_dense else self._attributions(model, inputs, classes, ctx)[1]
                correlation, varies = _rank_correlations(ours, theirs)
                found.append(correlation)
                counted.append(varies)
                if bool(torch.cat(counted).any()):
                    measured = _measured(torch.cat(found), torch.cat(counted))
                    ctx.report({"explanation_agreement": measured})
        if not bool(torch.cat(counted).any()):
            raise TrialError(f"{self.name}: to the dense model all values of every sample are the same")
        return {"explanation_agreement": measured}

    def _of_dense(self, ctx: EvaluationContext) -> Iterable[tuple[Tensor, Tensor]]:
        """Of each batch the predicted classes, (N,), and attributions, (N, K); computed once per study if they fit."""

        def made() -> Iterator[tuple[Tensor, Tensor]]:
            for inputs, targets in self.batches(ctx):
                yield self._attributions(ctx.dense, inputs, None, ctx, targets)

        def kept() -> tuple[tuple[Tensor, Tensor], ...] | None:
            found, size = [], 0
            for classes, attributions in made():
                found.append((classes, attributions))
                size += attributions.nbytes
                if size > _KEPT_BYTES:
                    return None
            return tuple(found)

        found = self.kept(ctx, kept)
        return made() if found is None else found

    def _attributions(
        self, model: nn.Module, inputs: Inputs, classes: Tensor | None, ctx: EvaluationContext, targets: Any = None
    ) -> tuple[Tensor, Tensor]:
        """What each value adds to the score of classes, those that the model predicts if None: those, and (N, K)."""
        import torch

        inputs = inputs.map(torch.clone)  # what was fetched in inference mode takes no part in gradients
        first = inputs.first
        start = torch.full_like(first, 0.0 if self.baseline == "zeros" else (ctx.data.bounds or (0.0,))[0])
        if classes is None:
            classes = self._scores(inputs.feed(model), targets, ctx).detach().argmax(1)
        gradients = torch.zeros_like(first)
        for step in range(self.steps):
            here = (start + (step + 0.5) / self.steps * (first - start)).requires_grad_()  # the middle of each part
            scores = self._scores(inputs.with_first(here).feed(model), None, ctx)
            chosen = scores.gather(1, classes[:, None]).sum()
            found = torch.autograd.grad(chosen, here, allow_unused=True)[0] if chosen.requires_grad else None
            if found is None:
                raise TrialError(f"{self.name}: the outputs have no gradient to the inputs: use agreement")
            gradients += found
        attributions = ((first - start) * gradients / self.steps).flatten(1)
        if bool(attributions.isnan().any()):
            raise TrialError(f"{self.name}: the model's outputs or gradients are NaN")
        return classes, attributions

    def _scores(self, outputs: Any, targets: Any, ctx: EvaluationContext) -> Tensor:
        """Outputs as (N, C).

        Raises:
            TrialError: They are of another shape, or several numbers of which none is predicted.
        """
        import torch

        if not isinstance(outputs, torch.Tensor):
            raise TrialError(f"{self.name} is of one output, these are {shapes(outputs)}: name a head")
        scores = outputs[:, None] if outputs.dim() == 1 else outputs
        several = scores.dim() != 2 or (
            targets is not None and scores.shape[1] > 1 and ctx.task.correct(outputs, targets) is None
        )
        if several:
            raise TrialError(
                f"{self.name} is of one predicted class, or number, per sample; task {ctx.task.name} has outputs"
                f" {shapes(outputs)}: use agreement"
            )
        return scores

    def _no_numbers(self, first: Tensor) -> str | None:
        if first.is_floating_point():
            return None
        return f"{self.name} is of inputs that are real numbers; the first input is {shapes(first)}: use agreement"


def _measured(correlations: Tensor, counted: Tensor) -> Measured:
    found = intervals.mean_of(correlations, counted)
    if found.low is None or found.high is None or found.low == found.high:  # nothing is known to vary yet
        return Measured(value=found.value, samples=found.samples)
    return found.model_copy(update={"low": max(-1.0, found.low), "high": min(1.0, found.high)})


def _rank_correlations(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Spearman's of each row, (N,), of two of (N, K); and 1 where the second one's values differ, else 0, (N,)."""
    one, other = (_centred_ranks(each.double().cpu()) for each in (ours, theirs))
    lengths = one.norm(dim=1) * other.norm(dim=1)
    return (one * other).sum(1) / lengths.where(lengths > 0, 1.0), (other.norm(dim=1) > 0).double()


def _centred_ranks(values: Tensor) -> Tensor:
    """Ranks of each row's values, (N, K), those of equal ones their mean, less the row's mean."""
    import torch

    ordered = values.sort(dim=1).values
    values = values.contiguous()
    ranks = (torch.searchsorted(ordered, values) + torch.searchsorted(ordered, values, right=True)).double() / 2
    return ranks - values.shape[1] / 2
