"""The contracts: what a plugin author implements.

A component is a frozen pydantic model. Its fields are its YAML arguments (``{use: taylor, batches: 4}``), extras are
refused, and it has one or two methods. Import torch inside them, not at the top of the module: a spec is then checked
without it, in a fraction of a second.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from autoprune.plugin.component import Component
from autoprune.plugin.values import Candidate, Measured, Metric

if TYPE_CHECKING:
    from pathlib import Path

    import optuna
    from torch import Tensor, nn

    from autoprune.plugin.contexts import (
        EvaluationContext,
        ExportContext,
        ObserverContext,
        PruneContext,
        SamplerContext,
        ScoreContext,
        SourceContext,
        TransformContext,
    )
    from autoprune.plugin.data import Data, Inputs
    from autoprune.plugin.execution import Workers, Workplace
    from autoprune.plugin.knobs import Choices, Knob
    from autoprune.plugin.pruned import Pruned
    from autoprune.plugin.results import Facts, StudyInfo, StudyOutcome, TrialResult
    from autoprune.plugin.values import Artifact, Costs, Direction, Group, LayerCosts


class ModelSource(Component):
    """Where the dense model comes from."""

    kind = "model"

    @property
    def runs_named_code(self) -> bool:
        """Whether `build` may run code that its options name: a module, a file.

        A saved model brings its options from whoever wrote it, so `load_pruned` builds such a source only if it is told
        ``trust=True``. Override it to say False where, whatever the options are, nothing runs but what is installed.
        """
        return True

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

    def refuses(self, group: Group) -> str | None:  # noqa: ARG002  for subclasses
        """Why it cannot rank a group, told before the first trial; None when it can."""
        return None


class Recovery(Component):
    """Wins back what a cut cost."""

    kind = "recovery"

    @abstractmethod
    def recover(self, pruned: Pruned, ctx: PruneContext) -> None:
        """Change ``pruned.network`` (handed over in ``eval()``) in place, using the train split."""

    def recover_alone(self, pruned: Pruned, ctx: PruneContext) -> bool:  # noqa: ARG002  for subclasses
        """What recovering comes to where one group alone was cut, as cheaply as that can be told; for probes.

        Args:
            pruned: Its network is thrown away afterwards. Modules that the cut left whole are shared with others: give
                the cut ones new parameters, and leave the others as they are.
            ctx: The strategy's.

        Returns:
            Whether anything was recovered. False, as inherited: then the effect of the cut itself is what counts.
        """
        return False

    def final(self) -> Recovery:
        """The version that makes the front's members again once the trials are done: the same with more samples, say.

        What it costs is paid once for each of them.
        """
        return self

    def refuses(self, data: Data) -> str | None:  # noqa: ARG002  for subclasses
        """Why it cannot recover a model on that data; None when it can."""
        return None


Recoveries = Annotated[
    tuple[Recovery, ...], BeforeValidator(lambda given: given if isinstance(given, list | tuple) else (given,))
]
"""Field type: one recovery, or several that run one after the other: ``recover: [{use: …}, {use: …}]``."""


def _final(value: object) -> object:
    """An option's value with the final versions of the recoveries in it."""
    if isinstance(value, tuple):
        return tuple(map(_final, value))
    return value.final() if isinstance(value, Recovery) else value


class Strategy(Component):
    """Turns a candidate's ratios into a pruned, recovered model."""

    kind = "strategy"
    allocates: ClassVar[bool] = False
    """Whether it decides itself how many units groups lose: then what it cut counts, not what was asked."""

    @abstractmethod
    def prune(self, candidate: Candidate, ctx: PruneContext) -> Pruned:
        """A cut copy of the dense network. Groups lose exactly ``candidate.cut_units``, unless it ``allocates``."""

    def recover_alone(self, pruned: Pruned, ctx: PruneContext) -> bool:
        """What the recoveries among its options come to where one group alone was cut; see `Recovery.recover_alone`."""
        options = [value if isinstance(value, tuple) else (value,) for _, value in self]
        recoveries = [each for several in options for each in several if isinstance(each, Recovery)]
        return any([recovery.recover_alone(pruned, ctx) for recovery in recoveries])  # noqa: C419  each has its turn

    def final(self) -> Strategy:
        """The version that makes the front's members again once the trials are done: with its recoveries' final ones.

        Where it is the same, they stay what the search made.
        """
        return self.model_copy(update={name: _final(value) for name, value in self})

    def refuses(self, data: Data) -> str | None:  # noqa: ARG002  for subclasses
        """Why it cannot prune a model on that data; None when it can."""
        return None


class Transform(Component):
    """Replaces modules of the pruned, recovered network: low rank, quantisation, gates. A step of the saved model."""

    kind = "transform"

    @property
    def runs_named_code(self) -> bool:
        """Whether `rebuild` may run code that its options or knobs name; as of a model source."""
        return True

    def knobs(self, network: nn.Module) -> Sequence[Knob]:  # noqa: ARG002  for subclasses
        """What the search may choose, per layer of the dense network; nothing unless overridden."""
        return ()

    @abstractmethod
    def apply(self, network: nn.Module, choice: Choices, ctx: TransformContext) -> nn.Module:
        """The network with modules replaced; may calibrate on the train split. The given one may be changed.

        Args:
            network: Pruned, in ``eval()``; a copy.
            choice: Its knobs, by their names.
            ctx: Data, device, task.
        """

    @abstractmethod
    def rebuild(self, network: nn.Module, choice: Choices) -> nn.Module:
        """The same modules replaced, without data and with any weights: a saved model is opened so."""

    @abstractmethod
    def costs(self, layers: Mapping[str, LayerCosts], choice: Choices) -> Mapping[str, LayerCosts]:
        """What layers cost afterwards, by arithmetic. Layers that are left out stay as they are.

        The host compares parameters and bytes with the network's, and fails the trial if they differ.

        Args:
            layers: Of the pruned network, by name. A layer that had a knob may be gone with its block, or be of another
                kind by an earlier transform: leave it out, and as it is.
            choice: Its knobs, by their names.
        """


Need = Literal["data", "labels", "gradients"]
"""What an evaluator may need: samples; their targets, for more than which elements count; backward passes through the
model, or training one."""


class Evaluator(Component):
    """Measures a model."""

    kind = "evaluator"

    metrics: ClassVar[tuple[Metric, ...]] = ()
    """What it makes, where that hangs on no option and on no data; else override `declares`."""
    needs: ClassVar[frozenset[Need]] = frozenset({"data", "labels", "gradients"})
    """What it needs with any of its options. What is left out is a promise, which the conformance kit checks: the
    metrics hang on no targets, or are the same of a model that has no gradients."""
    only_predicts: ClassVar[bool] = False
    """Whether it calls the model and no more: then the model that it gets may be another one that predicts the same
    and is faster (batch norms folded into the layers before them). Gradients to the inputs are fine; what looks into
    the network, hooks or changes it, or times it, is not."""
    label: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_-]*$",
        description="Told behind the metric names (robust_accuracy_fgsm), so that two evaluators make no metric twice.",
    )
    front: bool = Field(
        default=False,
        description="Measure the front's members alone, on the test split, when the trials are done: for what takes too"
        " long for every trial. Nothing can be searched or bounded by its metrics then.",
    )

    def declares(self, data: Data | None) -> tuple[Metric, ...]:  # noqa: ARG002  for subclasses
        """What it makes, by names without the label.

        Args:
            data: The study's; None while only the spec is read. Return nothing then if the data is needed to tell.
        """
        return self.metrics

    def produces(self, data: Data | None = None) -> tuple[Metric, ...]:
        """The metrics under the names that objectives use."""
        from dataclasses import replace

        return tuple(replace(metric, name=self.metric_name(metric.name)) for metric in self.declares(data))

    def metric_name(self, name: str) -> str:
        """The name of one of its metrics, with the label."""
        return f"{name}_{self.label}" if self.label else name

    @abstractmethod
    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Measure everything that it declares, by its name without the label.

        Args:
            model: Predicts from inputs in input units, in ``eval()``, on ``ctx.device``: returns the task's tensor.
                ``model.network`` is the bare network.
            ctx: The split to use and what it takes besides.
        """

    def refuses(self, data: Data) -> str | None:  # noqa: ARG002  for subclasses
        """Why it cannot measure a model on that data; None when it can."""
        return None

    def final(self) -> Evaluator:
        """The stricter version that measures the front on the test split (more samples, a stronger attack)."""
        return self

    def of_front(self, models: Iterable[nn.Module], ctx: EvaluationContext) -> Mapping[str, float | Measured]:  # noqa: ARG002  for subclasses
        """Measure what the models of a front come to together, as what they give away side by side.

        Asked of the final version, once, after each of them was measured on the test split. What it raises is told, and
        changes nothing else.

        Args:
            models: The pruned members of the front, as `evaluate` gets them, one after the other: each is opened when
                it is asked for and let go of then, so go through them once.
            ctx: As for the dense model: ``ctx.dense``, its costs, the samples of the test split that all were measured
                on.

        Returns:
            By names without the label, for the report; nothing, as inherited, and then it costs nothing.
        """
        return {}


class ExactEvaluator(Evaluator):
    """An evaluator that needs the candidate's arithmetic alone, so that bounds hold before anything runs."""

    needs: ClassVar[frozenset[Need]] = frozenset()

    @abstractmethod
    def compute(self, costs: Costs, dense: Costs) -> Mapping[str, float]:
        """Everything that it declares, by its name without the label."""

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


class Exporter(Component):
    """Writes the models of the front in a form for elsewhere."""

    kind = "exporter"

    @abstractmethod
    def export(self, model: nn.Module, examples: Inputs, folder: Path, ctx: ExportContext) -> Artifact:
        """Write files and say which one to open.

        Args:
            model: The bare network as `autoprune.load_pruned` opens it, in ``eval()``, on the CPU.
            examples: A few inputs as it takes them (normalised), N ≥ 2.
            folder: Exists and is empty.
            ctx: The normalisation that belongs in front of the model, and the task.
        """

    def refuses(self) -> str | None:
        """Why it cannot run here, such as a package that is missing; None when it can."""
        return None


class Executor(Component):
    """Where trials run: this process, worker processes, a cluster."""

    kind = "executor"

    @abstractmethod
    def open(self, workplace: Workplace) -> Workers:
        """Get ready to take jobs."""


class Observer(Component):
    """Watches a study; it cannot change or stop it.

    State between calls goes into ``ctx.memo``, files into ``ctx.folder``.
    """

    kind = "observer"

    def study_started(self, study: StudyInfo, ctx: ObserverContext) -> Facts | None:  # noqa: ARG002
        """Before the first trial of a session; ``study.finished`` holds the trials of earlier sessions.

        Returns:
            What the user should be told and scripts need, or None.
        """
        return None

    def probe_finished(self, study: StudyInfo, done: int, total: int, ctx: ObserverContext) -> None:
        """Each time that the effects of some more cuts were measured."""

    def trial_finished(self, study: StudyInfo, result: TrialResult, ctx: ObserverContext) -> None:
        """When a trial is complete, failed or rejected, in the order of finishing."""

    def member_finished(self, study: StudyInfo, doing: str, done: int, total: int, ctx: ObserverContext) -> None:
        """After the trials, each time that one more member of the front was made again, measured or exported."""

    def study_finished(self, study: StudyInfo, outcome: StudyOutcome, ctx: ObserverContext) -> None:
        """At the end of a session, interrupted or not, after the front was measured on the test split."""
