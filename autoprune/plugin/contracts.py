"""The contracts: what a plugin author implements.

A component is a frozen pydantic model. Its fields are its YAML arguments (``{use: taylor, batches: 4}``), extras are
refused, and it has one method. Import torch inside that method, not at the top of the module: a spec is then checked
without it, in a fraction of a second.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from autoprune.plugin.values import Candidate, Measured, Metric, PrunedModel
from autoprune.spec.fields import Strict

if TYPE_CHECKING:
    from pathlib import Path

    import optuna
    from torch import Tensor, nn

    from autoprune.plugin.contexts import EvaluationContext, PruneContext, SamplerContext, ScoreContext, SourceContext
    from autoprune.plugin.data import Data
    from autoprune.plugin.values import Costs, Direction, Group


class Component(Strict):
    """Base of everything that a spec names with ``use``."""

    kind: ClassVar[str]
    """What it is to the spec (``scorer``); set by the contracts below."""
    name: ClassVar[str]
    """What the spec says after ``use``; set by each component."""

    @model_validator(mode="wrap")
    @classmethod
    def _of_the_named_class(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Validate ``{use: name, …}`` by the class registered under that name.

        A field annotated with a contract (``recover: Recovery``) so takes any component of that kind. The
        validation context is the lookup: it maps ``(contract, name)`` to a class or raises a ``PydanticCustomError``.
        """
        if not isinstance(data, Mapping) or "use" not in data:
            if isinstance(data, cls) or "name" in vars(cls):
                return handler(data)
            raise PydanticCustomError("component", "name a {kind}: {use: …}", {"kind": cls.kind})
        options = {key: value for key, value in data.items() if key != "use"}
        if "name" in vars(cls):
            return handler(options)
        if info.context is None:
            raise PydanticCustomError("component", "components are looked up through the plugin host")
        concrete: type[Self] = info.context(cls, data["use"])
        return concrete.model_validate(options, context=info.context)

    def reference(self) -> dict[str, Any]:
        """The component as a spec writes it: ``{"use": name, …options}``, JSON types only."""
        return {"use": self.name, **_references(self)}


def _references(component: Component) -> dict[str, Any]:
    plain = component.model_dump(mode="json")
    for key, value in component:
        if isinstance(value, Component):
            plain[key] = value.reference()
        elif isinstance(value, list | tuple) and any(isinstance(each, Component) for each in value):
            plain[key] = [each.reference() if isinstance(each, Component) else each for each in value]
    return plain


class ModelSource(Component):
    """Where the dense model comes from."""

    kind = "model"

    @abstractmethod
    def build(self, ctx: SourceContext) -> nn.Module:
        """The bare architecture with any weights. Called again, in another process, to open a saved model."""

    @abstractmethod
    def load(self, data: Data, ctx: SourceContext) -> nn.Module:
        """The dense model with its trained weights, on the CPU.

        Raises:
            DataError: Its files are missing or do not fit.
        """

    def pruned_in(self, ctx: SourceContext) -> Path | None:  # noqa: ARG002  for subclasses
        """Folder of the saved pruned model that it opens, if it opens one.

        What is cut from that is saved as a cut of the first dense model, so that models can be pruned again and again.
        """
        return None


class DataSource(Component):
    """Where the data comes from."""

    kind = "data"

    @abstractmethod
    def load(self, ctx: SourceContext) -> Data:
        """Train, validation and test splits that share no sample.

        Raises:
            DataError: Its files are missing or malformed.
        """


class Scorer(Component):
    """Ranks the units of a group."""

    kind = "scorer"

    @abstractmethod
    def score(self, group: Group, ctx: ScoreContext) -> Tensor:
        """Importance of each unit, of shape (U,), higher = keep, finite."""


class Strategy(Component):
    """Turns a candidate's ratios into a pruned, recovered model."""

    kind = "strategy"

    @abstractmethod
    def prune(self, candidate: Candidate, ctx: PruneContext) -> PrunedModel:
        """A smaller copy of the dense network. Groups must lose exactly ``candidate.cut_units``."""


class Recovery(Component):
    """Wins back what a cut cost."""

    kind = "recovery"

    @abstractmethod
    def recover(self, network: nn.Module, ctx: PruneContext) -> None:
        """Change the network (a copy, handed over in ``eval()``) in place, using the train split."""


class Evaluator(Component):
    """Measures a model."""

    kind = "evaluator"

    metrics: ClassVar[tuple[Metric, ...]]
    only_predicts: ClassVar[bool] = False
    """Whether it calls the model and no more: then the model that it gets may be another one that predicts the same
    and is faster (batch norms folded into the layers before them). Gradients to the inputs are fine; what looks into
    the network, hooks or changes it, or times it, is not."""
    label: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_-]*$",
        description="Told behind the metric names (robust_accuracy_fgsm), so that two evaluators make no metric twice.",
    )

    def produces(self) -> tuple[Metric, ...]:
        """The metrics under the names that objectives use."""
        from dataclasses import replace

        return tuple(replace(metric, name=self.metric_name(metric.name)) for metric in self.metrics)

    def metric_name(self, name: str) -> str:
        """The name of one of the class's metrics, with the label."""
        return f"{name}_{self.label}" if self.label else name

    @abstractmethod
    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Measure every one of ``metrics``, by its name without the label.

        Args:
            model: Predicts from inputs in input units, in ``eval()``, on ``ctx.device``; ``model.network`` is the
                bare network.
            ctx: The split to use and what it takes besides.
        """

    def refuses(self, data: Data) -> str | None:  # noqa: ARG002  for subclasses
        """Why it cannot measure a model on that data; None when it can."""
        return None

    def final(self) -> Evaluator:
        """The stricter version that measures the front on the test split (more samples, a stronger attack)."""
        return self


class ExactEvaluator(Evaluator):
    """An evaluator that needs the candidate's arithmetic alone, so that bounds hold before anything runs."""

    @abstractmethod
    def compute(self, costs: Costs, dense: Costs) -> Mapping[str, float]:
        """Every one of ``metrics``, by its name without the label."""

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:  # noqa: ARG002  needs the arithmetic alone
        """`compute` on the candidate."""
        return dict(self.compute(ctx.costs, ctx.dense_costs))


class Sampler(Component):
    """Optuna's algorithm that proposes candidates."""

    kind = "sampler"

    @abstractmethod
    def build(self, ctx: SamplerContext) -> optuna.samplers.BaseSampler:
        """A sampler whose state is the study alone; a new one is built, with its own seed, for each draw."""

    def refuses(self, objectives: Mapping[str, Direction]) -> str | None:  # noqa: ARG002  for subclasses
        """Why it cannot handle these objectives, or runs here at all; None when it can."""
        return None

    @property
    def probe_samples(self) -> int:
        """Validation samples to measure the groups' sensitivity on, between the trials; 0 for not at all."""
        return 0


CONTRACTS: tuple[type[Component], ...] = (
    ModelSource, DataSource, Scorer, Strategy, Recovery, Evaluator, Sampler
)  # fmt: skip
