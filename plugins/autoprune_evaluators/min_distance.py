"""How far inputs have to move until predictions are wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, Field, PlainValidator

from autoprune import TrialError
from autoprune.plugin import Cost, Data, EvaluationContext, Measured, Metric
from autoprune.toolkit import intervals, paired
from autoprune_evaluators._attacking import WRITTEN, BoundedEvaluator, Loss, number

if TYPE_CHECKING:
    from torch import Tensor, nn


def _written(value: object) -> float | str:
    """As it is, for the metric's name, once it is known to be a distance."""
    known = number(value)
    return value if isinstance(value, str) else known


def _told_apart(values: tuple[float | str, ...]) -> tuple[float | str, ...]:
    if len({number(value) for value in values}) < len(values):
        raise ValueError("an epsilon is there twice")
    return values


class MinDistance(BoundedEvaluator):
    """The median length of the smallest perturbation that makes a prediction wrong, as far as Auto-PGD finds it.

    Unlike robust accuracy it needs no epsilon: each sample is attacked within ever closer balls, all in one pass. What
    is wrong as it is counts with a distance of 0. With ``epsilons``, the same pass tells the robust accuracy at each of
    them: the share of samples whose distance is larger. The median's 95 % interval is a bootstrap's over samples.
    """

    name = "min-distance"
    metrics = (
        Metric(
            "min_distance", "input units", "maximize", Cost.ATTACK, "Median of the smallest adversarial perturbations."
        ),
    )

    epsilons: Annotated[
        tuple[Annotated[float | str, PlainValidator(_written), WRITTEN], ...], AfterValidator(_told_apart)
    ] = Field(
        default=(),
        description="Sizes to tell the robust accuracy of, too, in input units: 2/255 makes robust_accuracy_at_2_255.",
    )
    steps: int = Field(default=10, ge=1, description="Gradient steps within each ball.")
    halvings: int = Field(
        default=4, ge=0, description="Balls of each sample after the first few: each halves the distance's uncertainty."
    )
    loss: Loss = "cross-entropy"
    seed: int = Field(default=0, ge=0, description="Seeds where attacks start, the same for every model of a study.")

    def declares(self, data: Data | None) -> tuple[Metric, ...]:
        """The distance, and a share for each epsilon."""
        shares = [
            Metric(
                name,
                "fraction at an epsilon",
                "maximize",
                Cost.ATTACK,
                f"Share of predictions right despite {epsilon:.4g}.",
            )
            for name, epsilon in self._asked().items()
        ]
        return (*super().declares(data), *shares)

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Find the distance of each sample.

        Raises:
            TrialError: Of half of the samples, none is found.
        """
        from autoprune_evaluators._min_distance import difference_of

        model, ctx = self.focused(model, ctx)
        found = self._distances(model, ctx, report=True)
        measured = self._measured(found)
        if "min_distance" not in measured:
            raise TrialError(
                "min-distance: of half of the samples no perturbation at all makes the prediction wrong; gradients may"
                " be masked: see loss: dlr, or square"
            )
        if ctx.of_dense:
            self.kept(ctx, lambda: found)
            return measured
        import torch

        dense: Tensor = self.kept(ctx, lambda: self._distances(ctx.dense, ctx))
        differences = {"min_distance": difference_of(found, dense)} | {
            name: paired.of_shares(found > epsilon, dense > epsilon, torch.ones(len(found)))
            for name, epsilon in self._asked().items()
        }
        return {name: each.model_copy(update={"difference": differences[name]}) for name, each in measured.items()}

    def final(self) -> Self:
        """Twice the steps and two more halvings."""
        return self.model_copy(update={"steps": 2 * self.steps, "halvings": self.halvings + 2})

    def _asked(self) -> dict[str, float]:
        """Metric to epsilon."""

        def name(epsilon: float | str) -> str:
            text = epsilon if isinstance(epsilon, str) else f"{epsilon:g}"
            return "robust_accuracy_at_" + re.sub(r"\W", "_", re.sub(r"\s", "", text))

        return {name(epsilon): number(epsilon) for epsilon in self.epsilons}

    def _measured(self, distances: Tensor) -> dict[str, Measured]:
        """Without the distance where that is not known."""
        from autoprune_evaluators._min_distance import median_of

        median = median_of(distances)
        known = {"min_distance": median} if math.isfinite(median.value) else {}
        return known | {
            name: intervals.share_of((distances > epsilon).double()) for name, epsilon in self._asked().items()
        }

    def _distances(self, model: nn.Module, ctx: EvaluationContext, *, report: bool = False) -> Tensor:
        from autoprune_evaluators._climbed import LOSSES
        from autoprune_evaluators._min_distance import Bisection

        search = Bisection(
            ball=self.ball(1.0),
            bounds=self.bounds(ctx.data),
            epsilons=tuple(self._asked().values()),
            steps=self.steps,
            halvings=self.halvings,
            seed=self.seed,
            loss=LOSSES[self.loss],
        )

        def tell(found: Tensor) -> None:
            if report:
                ctx.report(self._measured(found))

        return search.distances(model, self.batches(ctx), task=ctx.task, report=tell)
