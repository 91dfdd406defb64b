"""How much of what a class looks like a model gives away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self

from pydantic import Field

from autoprune import DataError, TrialError
from autoprune.plugin import Cost, Data, EvaluationContext, Measured, Metric
from autoprune.plugin.task import shapes
from autoprune.toolkit import intervals, paired
from autoprune.toolkit.samples import SampleEvaluator, losses

if TYPE_CHECKING:
    from torch import Tensor, nn


class ModelInversion(SampleEvaluator):
    """How far inputs that were reconstructed from a model are from what its training samples look like, class by class.

    From an input of zeros on, gradient steps look for what the model takes for the class most surely: MIFace of
    Fredrikson et al., *Model inversion attacks that exploit confidence information*, CCS 2015, doi
    10.1145/2810103.2813677. They minimise the task's loss, minus the log of the class's probability, in the place of 1
    minus the probability, whose gradient vanishes where a model is very sure of another class: that would look like
    safety. `inversion_error` is the root mean square, over an input's values, of the reconstruction less the mean of
    the class's train samples; its mean over classes, with a 95 % interval over them. A larger one is safer.

    A class whose samples differ much has no one look, and of such the error says little.
    """

    name = "model-inversion"
    needs = frozenset({"data", "labels", "gradients"})
    metrics = (
        Metric(
            "inversion_error",
            "input units",
            "maximize",
            Cost.ATTACK,
            "Distance of inputs reconstructed from the model to the mean train sample of their class.",
        ),
    )

    steps: int = Field(default=100, ge=1, description="Gradient steps of each reconstruction.")
    rate: float = Field(default=0.1, gt=0, description="What gradients are multiplied with, in input units.")
    samples: int | None = Field(
        default=1000, ge=1, description="Train samples that the mean of each class is taken over; all of them if null."
    )

    def refuses(self, data: Data) -> str | None:
        """Why there is nothing to reconstruct; None where there is."""
        import torch

        if data.classes is None:
            return f"{self.name} reconstructs what a class looks like; this data has no classes"
        inputs, _ = data.train.fetch(torch.zeros(1, dtype=torch.int64))
        if len(inputs.tensors) > 1 or not inputs.first.is_floating_point():
            told = ", ".join(map(shapes, inputs.tensors))
            return f"{self.name} reconstructs one input of real numbers; a sample is {told}"
        return None

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Reconstruct each class that has train samples.

        Raises:
            DataError: Samples are no single input of real numbers with a class.
            TrialError: The model has no gradients, what is reconstructed are no numbers, or outputs are no scores of
                classes.
        """
        model, ctx = self.focused(model, ctx)
        if fault := self.refuses(ctx.data):
            raise DataError(fault)
        classes, means = self._means(ctx)
        found = self._errors(model, ctx, classes, means)
        dense = self.kept(ctx, lambda: found if ctx.of_dense else self._errors(ctx.dense, ctx, classes, means))
        measured = intervals.mean_of(found)
        if measured.low is not None:
            measured = measured.model_copy(update={"low": max(0.0, measured.low)})
        if not ctx.of_dense:
            difference = paired.of_means(found, dense, found.new_ones(len(found)))
            measured = measured.model_copy(update={"difference": difference})
        return {"inversion_error": measured}

    def _means(self, ctx: EvaluationContext) -> tuple[Tensor, Tensor]:
        """The classes that there are, (C,), and the mean train sample of each, (C, …)."""

        def made() -> tuple[Tensor, Tensor]:
            import torch

            from autoprune_evaluators._classes import check_classes

            batches = [(inputs.first, targets) for inputs, targets in self.batches(replace(ctx, split="train"))]
            first, targets = (torch.cat(each) for each in zip(*batches, strict=True))
            with torch.inference_mode():
                outputs = ctx.dense(first[:2])
            check_classes(self.name, "reconstructs one class per sample", ctx.task, outputs, targets[:2])
            classes = targets.unique()  # type: ignore[no-untyped-call]
            means = torch.stack([first[targets == each].double().mean(0) for each in classes])
            if not bool(means.isfinite().all()):
                raise TrialError(f"{self.name}: train samples hold what is no number")
            return classes, means

        key = ("autoprune_evaluators.inversion", self.samples, self.head, str(ctx.device))
        return ctx.memo(key, made)

    def _errors(self, model: nn.Module, ctx: EvaluationContext, classes: Tensor, means: Tensor) -> Tensor:
        """Of each class, (C,)."""
        import torch

        from autoprune_evaluators._inversion import reconstructed

        found = [
            reconstructed(
                model,
                some,
                means.new_zeros(len(some), *means.shape[1:], dtype=torch.float32),
                loss=partial(losses, ctx.task),
                steps=self.steps,
                rate=self.rate,
                bounds=ctx.data.bounds,
            )
            for some in classes.split(self.batch_size)  # type: ignore[no-untyped-call]
        ]
        apart = (torch.cat(found).double() - means).flatten(1)
        if not bool(apart.isfinite().all()):
            raise TrialError(f"{self.name}: the model's gradients are no numbers, or the steps run away: lower rate")
        return apart.square().mean(1).sqrt().cpu()

    def final(self) -> Self:
        """The same, compared with the mean of all train samples."""
        return self.model_copy(update={"samples": None})
