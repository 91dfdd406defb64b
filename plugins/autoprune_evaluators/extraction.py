"""How well a model is copied by someone who may only ask it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from autoprune.plugin import Cost, Data, EvaluationContext, Inputs, Measured, Metric
from autoprune.toolkit import intervals, paired
from autoprune.toolkit.samples import SampleEvaluator, agreements, divergences, losses, right_shares, weights

if TYPE_CHECKING:
    from torch import Tensor, nn

_Copied = tuple["Tensor", "Tensor", "Tensor"]
"""Of each sample, (N,) each: the share of the model's answers that its copy gives, the share that the copy has right,
and what it counts."""


class ModelExtraction(SampleEvaluator):
    """How much a surrogate that learnt from a model's answers to some queries is like that model.

    `extraction_fidelity` is the share of the measured samples on which both answer alike (Jagielski et al., *High
    accuracy and high fidelity extraction*, arXiv:1909.01838), `extraction_accuracy` the share that the surrogate has
    right, or minus its loss where nothing is right or wrong. With ``labels: soft`` the attacker sees all outputs, as in
    *Knockoff Nets*, arXiv:1812.02766, and the surrogate learns them by the task's divergence; with ``hard`` the
    predicted class alone, as in *Copycat CNN*, arXiv:1806.05476.

    The attacker knows the dense architecture, draws its weights anew, and asks about random samples of the train split,
    without their targets: never about a measured one. Architecture, first weights, queries and batches are the same for
    every model of a study; the 95 % interval is over the measured samples, not over other surrogates. A model that
    answers the same to everything is copied perfectly: bound the accuracy, too.
    """

    name = "model-extraction"
    needs = frozenset({"data", "labels", "gradients"})
    metrics = (
        Metric(
            "extraction_fidelity",
            "fraction",
            "minimize",
            Cost.ATTACK,
            "Share of a model's answers that a surrogate gives which learnt from its answers to queries.",
        ),
        Metric(
            "extraction_accuracy",
            "fraction, or minus loss",
            "minimize",
            Cost.ATTACK,
            "What such a surrogate has right; minus its loss where nothing is right or wrong.",
        ),
    )

    queries: int = Field(
        default=500, ge=2, description="Random samples of the train split that the attacker asks about; or all of it."
    )
    labels: Literal["soft", "hard"] = Field(
        default="soft", description="What the attacker sees: all outputs, or the class with the largest score."
    )
    epochs: float = Field(default=20, gt=0, description="Passes over the queries that train the surrogate.")
    lr: float = Field(default=0.005, gt=0, description="Learning rate of its training, by AdamW.")
    seed: int = Field(
        default=0, ge=0, description="Of the queries and of the surrogate, the same for every model of a study."
    )
    samples: int | None = Field(
        default=1000, ge=1, description="Samples to compare on, a fixed random choice; the whole split if null."
    )
    batch_size: int = Field(default=64, ge=2, description="Samples in one pass, and in one step of training.")

    def refuses(self, data: Data) -> str | None:
        """Why there is nothing to ask; None where there is."""
        if len(data.train) < 2:
            return f"{self.name} asks about train samples, 2 or more; there are {len(data.train)}"
        return None

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Train a surrogate and compare it with the model.

        Raises:
            TrialError: The dense architecture cannot be drawn anew, the training diverged, or ``labels: hard`` of a
                task that does not choose one class per sample.
        """
        model, ctx = self.focused(model, ctx)
        shares, (same, right, counted) = copied = self._copied(model, ctx)
        _, dense = self.kept(ctx, lambda: copied if ctx.of_dense else self._copied(ctx.dense, ctx))
        fidelity = intervals.share_of(same, counted)
        accuracy = (intervals.share_of if shares else intervals.mean_of)(right, counted)
        if not ctx.of_dense and bool((counted == dense[2]).all()):
            less = paired.of_shares if shares else paired.of_means
            fidelity = fidelity.model_copy(update={"difference": paired.of_shares(same, dense[0], counted)})
            accuracy = accuracy.model_copy(update={"difference": less(right, dense[1], counted)})
        return {"extraction_fidelity": fidelity, "extraction_accuracy": accuracy}

    def _copied(self, model: nn.Module, ctx: EvaluationContext) -> tuple[bool, _Copied]:
        """Whether samples are right or wrong, and what the copy of a model says of them."""
        import torch

        surrogate, shares = self._surrogate(model, ctx), True
        found: list[tuple[Tensor, ...]] = []
        with torch.inference_mode():
            for inputs, targets in self.batches(ctx):
                answers, theirs = inputs.feed(surrogate), inputs.feed(model)
                shares = ctx.task.correct(answers, targets) is not None
                right = right_shares(ctx.task, answers, targets) if shares else -losses(ctx.task, answers, targets)
                same = agreements(ctx.task, answers, theirs, targets)
                found.append((same, right, weights(ctx.task, theirs, targets)))
            same, right, counted = (torch.cat(each).double().cpu() for each in zip(*found, strict=True))
        return shares, (same, right, counted)

    def _surrogate(self, model: nn.Module, ctx: EvaluationContext) -> nn.Module:
        import torch

        from autoprune.toolkit.training import Training
        from autoprune_evaluators._afresh import trained
        from autoprune_evaluators._classes import check_classes

        def loss(outputs: Any, inputs: Inputs, targets: Any) -> Tensor:
            with torch.no_grad():  # it says the same each time: a query counts once
                answers = inputs.feed(model)
            if self.labels == "soft":
                return divergences(ctx.task, outputs, answers, targets)
            mend, takes = "use labels: soft", "learns one class per sample from hard labels"
            check_classes(self.name, takes, ctx.task, answers, targets, mend=mend)
            return losses(ctx.task, outputs, answers.argmax(1))

        train = ctx.data.train
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(self.seed))
        steps = {"epochs": self.epochs, "batch_size": self.batch_size, "lr": self.lr}
        options = Training(**steps, optimizer="adamw", schedule="constant")
        asked, who = train.part(order[: self.queries]), self.name
        return trained(ctx, asked, options, seed=self.seed, what=who, head=self.head, loss=loss)

    def final(self) -> Self:
        """The same, compared on the whole split."""
        return self.model_copy(update={"samples": None})
