"""How many predictions survive an attack on the input.

Epsilon is in input units, *before* normalisation: models take inputs as the data source hands them out, so ``2/255`` is
two grey levels of an image in [0, 1]. An epsilon taken after normalisation is another, mostly far weaker attack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema

from autoprune import DataError
from autoprune.plugin import Cost, Data, EvaluationContext, Measured, Metric
from autoprune.toolkit import intervals, paired
from autoprune.toolkit.samples import SampleEvaluator

if TYPE_CHECKING:
    from torch import Tensor, nn


def _fraction(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("write a distance as 2/255 or 0.008")
    if not isinstance(value, str):
        return value
    over, slash, under = value.partition("/")
    try:
        return float(over) / float(under if slash else 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError("write a distance as 2/255 or 0.008") from None


Distance = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False),
    BeforeValidator(_fraction),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^\s*[0-9.]+([eE][-+]?[0-9]+)?\s*(/\s*[0-9.]+\s*)?$"},
            ]
        }
    ),
]
"""A distance in input units, as a number or a fraction: ``2/255``."""


class _AttackEvaluator(SampleEvaluator):
    metrics = (
        Metric(
            "robust_accuracy", "fraction", "maximize", Cost.ATTACK, "Share of predictions right despite the attack."
        ),
    )

    epsilon: Distance = Field(
        description="Size of the perturbation in input units, before normalisation, as a number or a fraction: 2/255."
    )
    norm: Literal["linf", "l2"] = Field(
        default="linf",
        description="What epsilon bounds: linf the change of each value, l2 the Euclidean length of them all.",
    )
    samples: int | None = Field(
        default=256, ge=1, description="Samples to attack, a fixed random choice; the whole split if null."
    )
    batch_size: int = Field(
        default=64, ge=1, description="Samples attacked at once; after each batch a hopeless candidate is given up."
    )

    def refuses(self, data: Data) -> str | None:
        """Why it cannot attack inputs like these; None when it can."""
        if data.bounds is None:
            return f"{self.name} attacks inputs with bounds, such as images; this data has none"
        low, high = data.bounds
        if self.norm == "linf" and self.epsilon > high - low:
            return (
                f"{self.name}: epsilon {self.epsilon:g} is more than the inputs' whole range, {low:g} to {high:g};"
                " it is in input units, before normalisation: 2/255 for two grey levels of an image in 0 to 1"
            )
        return None

    def _survivors(
        self,
        model: nn.Module,
        ctx: EvaluationContext,
        *,
        steps: int,
        step_size: float,
        restarts: int = 1,
        random_start: bool = False,
        seed: int = 0,
    ) -> Mapping[str, float | Measured]:
        from autoprune.toolkit.balls import L2, Linf
        from autoprune_evaluators._attack import Attack, withstood

        bounds = ctx.data.bounds
        if bounds is None:
            raise DataError(str(self.refuses(ctx.data)))
        model, ctx = self.focused(model, ctx)
        ball = Linf(self.epsilon) if self.norm == "linf" else L2(self.epsilon)
        attack = Attack(ball, steps=steps, step_size=step_size, bounds=bounds)

        def run(model: nn.Module, report: Callable[[Tensor, Tensor], None]) -> tuple[Tensor, Tensor]:
            return withstood(
                model,
                self.batches(ctx),
                attack,
                task=ctx.task,
                restarts=restarts,
                random_start=random_start,
                seed=seed,
                report=report,
            )

        found = run(model, report=lambda *known: ctx.report({"robust_accuracy": intervals.share_of(*known)}))
        options = self.model_dump_json(exclude={"label"})
        key = ("autoprune_evaluators", self.name, options, str(ctx.device), ctx.split)
        dense = ctx.memo(key, lambda: found if ctx.of_dense else run(ctx.dense, report=lambda *_: None))
        difference = None if ctx.of_dense else paired.of_shares(found[0], dense[0], found[1])
        return {"robust_accuracy": intervals.share_of(*found).model_copy(update={"difference": difference})}


class Fgsm(_AttackEvaluator):
    """Accuracy under one gradient step of size epsilon from the input itself: quick, and easily fooled.

    Goodfellow et al., *Explaining and harnessing adversarial examples*, arXiv:1412.6572.
    """

    name = "fgsm"

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Attack each sample that is predicted right, and count those that still are, among all samples."""
        return self._survivors(model, ctx, steps=1, step_size=self.epsilon)


class Pgd(_AttackEvaluator):
    """Accuracy under projected gradient descent: many small steps uphill on the loss, within epsilon.

    A sample is lost as soon as one of its iterates is misclassified; where a sample has many elements, the iterate with
    the fewest right ones counts. Madry et al., *Towards deep learning models
    resistant to adversarial attacks*, arXiv:1706.06083.
    """

    name = "pgd"

    steps: int = Field(default=10, ge=1, description="Gradient steps in one run.")
    step_size: Distance | None = Field(default=None, description="Length of a step; 2.5 * epsilon / steps if left out.")
    restarts: int = Field(default=1, ge=1, description="Runs on each sample, the first included; the worst one counts.")
    random_start: bool = Field(
        default=True, description="Start the first run, like all others, from noise within epsilon, not from the input."
    )
    seed: int = Field(default=0, ge=0, description="Seeds that noise, the same for every model of a study.")

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Attack each sample that is predicted right, and count those that still are, among all samples."""
        return self._survivors(
            model,
            ctx,
            steps=self.steps,
            step_size=self.step_size or 2.5 * self.epsilon / self.steps,
            restarts=self.restarts,
            random_start=self.random_start,
            seed=self.seed,
        )

    def final(self) -> Self:
        """Twice the steps and one more run."""
        return self.model_copy(update={"steps": 2 * self.steps, "restarts": self.restarts + 1})
