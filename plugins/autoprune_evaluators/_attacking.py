"""What evaluators share that attack the input: distances, norms, and how many predictions survive.

Epsilon is in input units, *before* normalisation: models take inputs as the data source hands them out, so ``2/255`` is
two grey levels of an image in [0, 1]. An epsilon taken after normalisation is another, mostly far weaker attack.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, PlainValidator, WithJsonSchema

from autoprune import DataError
from autoprune.plugin import Batch, Cost, Data, EvaluationContext, Measured, Metric
from autoprune.toolkit import intervals, paired
from autoprune.toolkit.samples import SampleEvaluator

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.toolkit.balls import L2, Linf
    from autoprune_evaluators._attack import Attack

GAUGED = 128
"""Samples that an epsilon is found on."""

Loss = Annotated[
    Literal["cross-entropy", "dlr"],
    Field(
        description="What is climbed: cross-entropy the task's loss; dlr the difference of logits ratio, of three"
        " classes or more, which the scale of the logits does not change."
    ),
]
Targeted = Literal["least-likely", "next"] | Annotated[int, Field(ge=0, strict=True)]
"""Class that an attack is to make of a sample."""
ROBUST_ACCURACY = Metric(
    "robust_accuracy", "fraction", "maximize", Cost.ATTACK, "Share of predictions right despite the attack."
)


def number(value: object) -> float:
    """The number that a distance is, written as a number or a fraction.

    Raises:
        ValueError: It is no distance.
    """
    over, slash, under = value.partition("/") if isinstance(value, str) else (value, "", "")
    if isinstance(over, bool) or not isinstance(over, str | int | float):
        raise ValueError("write a distance as 2/255 or 0.008")
    try:
        found = float(over) / float(under if slash else 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError("write a distance as 2/255 or 0.008") from None
    if not 0 < found < math.inf:
        raise ValueError("a distance is above 0 and finite: write 2/255 or 0.008")
    return found


_WRITTEN: list[dict[str, Any]] = [
    {"type": "number", "exclusiveMinimum": 0},
    {"type": "string", "pattern": r"^\s*[0-9.]+([eE][-+]?[0-9]+)?\s*(/\s*[0-9.]+\s*)?$"},
]
WRITTEN = WithJsonSchema({"anyOf": _WRITTEN})
Distance = Annotated[float, PlainValidator(number), WRITTEN]
"""A distance in input units, as a number or a fraction: ``2/255``."""
Epsilon = Annotated[
    float | Literal["auto"],
    PlainValidator(lambda value: "auto" if value == "auto" else number(value)),
    WithJsonSchema({"anyOf": [*_WRITTEN, {"const": "auto"}]}),
]


class AttackingEvaluator(SampleEvaluator):
    """Changes inputs, and sees what that does to predictions."""

    needs = frozenset({"data", "labels", "gradients"})

    samples: int | None = Field(
        default=256, ge=1, description="Samples to attack, a fixed random choice; the whole split if null."
    )
    batch_size: int = Field(
        default=64, ge=1, description="Samples attacked at once; after each batch a hopeless candidate is given up."
    )

    def _robust_accuracy(self, model: nn.Module, ctx: EvaluationContext, runs: Sequence[Attack]) -> Measured:
        """Attack each sample that is predicted right, and count those that still are, among all samples.

        Raises:
            TrialError: The task knows no right and wrong.
        """
        found = self._withstood(model, ctx, runs, report=True)
        dense = self.kept(ctx, lambda: found if ctx.of_dense else self._withstood(ctx.dense, ctx, runs))
        difference = None if ctx.of_dense else paired.of_shares(found[0], dense[0], found[1])
        return intervals.share_of(*found).model_copy(update={"difference": difference})

    def _withstood(
        self, model: nn.Module, ctx: EvaluationContext, runs: Sequence[Attack], *, report: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The share of each sample that is right in the end, and what the sample counts, both (N,)."""
        from autoprune_evaluators._attack import withstood

        def tell(*known: Tensor) -> None:
            if report:
                ctx.report({"robust_accuracy": intervals.share_of(*known)})

        return withstood(model, self.batches(ctx), runs, task=ctx.task, seed=getattr(self, "seed", 0), report=tell)

    def _found_epsilon(
        self, ctx: EvaluationContext, runs: Callable[[float], Sequence[Attack]], largest: Callable[[], float]
    ) -> float:
        """The epsilon at which the dense model keeps about 60 % robust accuracy, found once in a study for all options.

        Args:
            ctx: Of any split: validation samples tell.
            runs: An epsilon to what attacks each sample.
            largest: That makes sense.

        Raises:
            TrialError: There is none.
        """
        ctx = replace(ctx, split="validation")

        def share(epsilon: float) -> float:
            return intervals.share_of(*self._withstood(ctx.dense, ctx, runs(epsilon))).value

        def find() -> float:
            from autoprune_evaluators._epsilon import calibrated

            return calibrated(share, largest(), name=self.name)

        options = self.model_dump_json(exclude={"label"})
        found: float = ctx.memo(("autoprune_evaluators.epsilon", self.name, options, str(ctx.device)), find)
        return found


class BoundedEvaluator(AttackingEvaluator):
    """Moves inputs within their bounds."""

    norm: Literal["linf", "l2"] = Field(
        default="linf",
        description="What epsilon bounds: linf the change of each value, l2 the Euclidean length of them all.",
    )

    def refuses(self, data: Data) -> str | None:
        """Why it cannot attack inputs like these; None when it can."""
        if data.bounds is None:
            return f"{self.name} attacks inputs with bounds, such as images; this data has none"
        return None

    def bounds(self, data: Data) -> tuple[float, float]:
        """Smallest and largest legal value.

        Raises:
            DataError: The data has none.
        """
        if data.bounds is None:
            raise DataError(str(self.refuses(data)))
        return data.bounds

    def _too_large(self, epsilon: float | Literal["auto"], data: Data) -> str | None:
        if (
            data.bounds is None
            or self.norm != "linf"
            or epsilon == "auto"
            or epsilon <= data.bounds[1] - data.bounds[0]
        ):
            return None
        return (
            f"{self.name}: epsilon {epsilon:g} is more than the inputs' whole range, {data.bounds[0]:g} to"
            f" {data.bounds[1]:g}; it is in input units, before normalisation: 2/255 for two grey levels of an image in"
            " 0 to 1"
        )

    def ball(self, epsilon: float) -> Linf | L2:
        """All perturbations of at most that size."""
        from autoprune.toolkit.balls import L2, Linf

        return Linf(epsilon) if self.norm == "linf" else L2(epsilon)


class AttackEvaluator(BoundedEvaluator):
    """Counts the predictions that are right despite an attack of size epsilon."""

    metrics = (ROBUST_ACCURACY,)

    epsilon: Epsilon = Field(
        description="Size of the perturbation in input units, before normalisation, as a number or a fraction: 2/255."
        " auto finds one at which the dense model keeps about 60 % robust accuracy: what ranks pruned models best."
    )

    def declares(self, data: Data | None) -> tuple[Metric, ...]:
        """The robust accuracy, and the epsilon where that was to be found."""
        found = Metric("epsilon", "input units", "maximize", Cost.ATTACK, "Size of the perturbation that was found.")
        return (*super().declares(data), found) if self.epsilon == "auto" else super().declares(data)

    def refuses(self, data: Data) -> str | None:
        """Why it cannot attack inputs like these; None when it can."""
        return self._too_large(self.epsilon, data) or super().refuses(data)

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Attack each sample that is predicted right, and count those that still are, among all samples.

        Raises:
            TrialError: The task knows no right and wrong, or no epsilon is found.
        """
        model, ctx = self.focused(model, ctx)
        bounds = self.bounds(ctx.data)
        epsilon = self._calibrated(ctx) if self.epsilon == "auto" else self.epsilon
        measured = self._robust_accuracy(model, ctx, self._runs(epsilon, bounds))
        return {"robust_accuracy": measured} | ({"epsilon": epsilon} if self.epsilon == "auto" else {})

    def _calibrated(self, ctx: EvaluationContext) -> float:
        """The epsilon for the dense model on validation samples.

        It is the same for the stronger version that measures the front.
        """
        fields = type(self).model_fields
        usual: dict[str, Any] = {
            name: fields[name].default for name in ("steps", "restarts", "queries") if name in fields
        }
        gauge = self.model_copy(update={**usual, "samples": GAUGED})
        low, high = bounds = gauge.bounds(ctx.data)

        def largest() -> float:
            first = next(iter(gauge.batches(replace(ctx, split="validation"))))[0].first[0]
            return (high - low) * (1.0 if self.norm == "linf" else math.sqrt(first.numel()))

        return gauge._found_epsilon(ctx, lambda epsilon: gauge._runs(epsilon, bounds), largest)

    @abstractmethod
    def _runs(self, epsilon: float, bounds: tuple[float, float]) -> Sequence[Attack]:
        """What attacks each sample, one after the other."""


class RandomAttackEvaluator(AttackEvaluator):
    """An attack that chance has a part in."""

    restarts: int = Field(default=1, ge=1, description="Runs on each sample, the first included; the worst one counts.")
    seed: int = Field(default=0, ge=0, description="Seeds what is random, the same for every model of a study.")


class GradientAttackEvaluator(RandomAttackEvaluator):
    """An attack of many steps along the gradient of a loss."""

    steps: int
    loss: Loss = "cross-entropy"
    targeted: Targeted | None = Field(
        default=None,
        description="Class that the attack is to make of each sample: least-likely to the model as the sample is, next"
        " (the true one plus 1), or a number, whose own samples are left out; any wrong one if left out.",
    )

    def refuses(self, data: Data) -> str | None:
        """Why it cannot attack inputs like these; None when it can."""
        if isinstance(self.targeted, int) and data.classes is not None and self.targeted >= data.classes:
            return f"{self.name}: targeted is class {self.targeted}; the data has 0 to {data.classes - 1}"
        return super().refuses(data)

    def batches(self, ctx: EvaluationContext) -> Iterable[Batch]:
        """The samples; those that are of the class aimed at already are not among them.

        Raises:
            DataError: All are.
            TrialError: There are no targets of the head, or they are no classes.
        """
        if not isinstance(self.targeted, int):
            return super().batches(ctx)
        from autoprune_evaluators._climbed import others

        return others(super().batches(ctx), self.targeted)

    def _climbed(self) -> dict[str, Any]:
        """What it climbs: options of a `GradientAttack`."""
        from autoprune_evaluators._climbed import LOSSES, TARGETED_LOSSES, aim

        if self.targeted is None:
            return {"loss": LOSSES[self.loss]}
        return {"loss": TARGETED_LOSSES[self.loss], "aim": aim(self.targeted)}

    def final(self) -> Self:
        """Twice the steps and one more run."""
        return self.model_copy(update={"steps": 2 * self.steps, "restarts": self.restarts + 1})
