"""What executors are handed, and what comes of it. All of it is data, so that it goes to other processes as text."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from autoprune.plugin import Measured, TrialResult
from autoprune.study.proposal import Precision, Proposal
from autoprune.study.record import Record

if TYPE_CHECKING:
    from autoprune.study.problem import Problem

D = TypeVar("D", bound=BaseModel, covariant=True)


class Job(Protocol[D]):
    """Something to be done where the problem is loaded. Doing it twice comes to the same."""

    answer: ClassVar[type[BaseModel]]
    """What `perform` and `failed` give."""
    limited: ClassVar[bool]
    """Whether the time limit of trials is for it."""

    def perform(self, runner: Performer) -> D:
        """Do it. What components raise is in the answer."""

    def failed(self, problem: Problem, reason: str) -> D:
        """The answer, if whoever did it was lost."""


class Performer(Protocol):
    """Whoever does jobs where the problem is loaded: `autoprune.study.trial.Runner`."""

    def run(self, proposal: Proposal) -> TrialResult:
        """Try a candidate."""

    def calibrate(self) -> Calibrated:
        """Settle the precision."""

    def probe(self, job: Probe) -> Probed:
        """Measure the effects of cuts."""

    def remeasure(self, job: Remeasure) -> Remeasured:
        """Measure a saved model on the test split."""

    def join(self, job: Join) -> Joined:
        """Measure what saved models come to together."""

    def export(self, job: Export) -> Exported:
        """Write a saved model in another form."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Tried(_Record):
    answer: ClassVar[type[BaseModel]] = TrialResult

    proposal: Proposal
    submitted: datetime = Field(default_factory=lambda: datetime.now(UTC))

    def perform(self, runner: Performer) -> TrialResult:
        """Try it."""
        return runner.run(self.proposal)

    def failed(self, problem: Problem, reason: str) -> TrialResult:
        """A failed trial."""
        result = Record(problem, self.proposal).result("failed", reason)
        return result.model_copy(update={"started": self.submitted})


class Trial(_Tried):
    """Asks for a candidate to be tried."""

    limited: ClassVar[bool] = True

    kind: Literal["trial"] = "trial"


class Refine(_Tried):
    """Asks for a member of the front to be made again, by its strategy's final version.

    Where it is feasible and not dominated by what it was (the proposal's one rival), the model is saved beside that,
    see `autoprune.study.models.refined_folder`.
    """

    limited: ClassVar[bool] = False

    kind: Literal["refine"] = "refine"


class Calibrated(_Record):
    """What came of it."""

    precision: Precision


class Calibrate(_Record):
    """Asks whether a lower precision serves as well and faster."""

    answer: ClassVar[type[BaseModel]] = Calibrated
    limited: ClassVar[bool] = False

    kind: Literal["calibrate"] = "calibrate"

    def perform(self, runner: Performer) -> Calibrated:
        """Compare."""
        return runner.calibrate()

    def failed(self, problem: Problem, reason: str) -> Calibrated:  # noqa: ARG002  nothing hangs on why
        """It does not."""
        return Calibrated(precision="float32")


class Cut(_Record):
    """Of one group alone."""

    scorer: str
    """Label of the scorer that chooses the units."""
    group: str
    units: int
    """How many go."""


class Effect(_Record):
    """What one cut does."""

    cut: Cut
    divergence: float = 0.0
    """Mean divergence of the outputs from the dense model's, as the task measures it."""
    agreement: float = 0.0
    """Mean share of what the dense model says that is still said, as the task counts it."""
    reason: str | None = None
    """Why it could not be measured."""


class Probed(_Record):
    """What came of it."""

    effects: tuple[Effect, ...]


class Probe(_Record):
    """Asks what cuts do to the outputs."""

    answer: ClassVar[type[BaseModel]] = Probed
    limited: ClassVar[bool] = False

    kind: Literal["probe"] = "probe"
    cuts: tuple[Cut, ...]
    samples: int
    """Validation samples to predict."""
    precision: Precision = "float32"

    def perform(self, runner: Performer) -> Probed:
        """Measure each."""
        return runner.probe(self)

    def failed(self, problem: Problem, reason: str) -> Probed:  # noqa: ARG002  the cuts are all there is to tell
        """Nothing is known of any."""
        return Probed(effects=tuple(Effect(cut=cut, reason=reason) for cut in self.cuts))


class Remeasured(_Record):
    """What came of it."""

    number: int
    metrics: dict[str, Measured]
    durations_s: dict[str, float] = {}
    """Wall-clock seconds per evaluator, by its name in the study."""
    reason: str | None = None
    """Why it failed."""


class Remeasure(_Record):
    """Asks for a saved model, or for the dense one, to be measured on the test split."""

    answer: ClassVar[type[BaseModel]] = Remeasured
    limited: ClassVar[bool] = False

    kind: Literal["remeasure"] = "remeasure"
    number: int
    """Of the trial."""
    dense: bool
    choices: dict[str, float | str] = {}
    """The trial's knobs."""
    samples: int | None = None
    """Of the test split, always the same ones; all if None."""

    def perform(self, runner: Performer) -> Remeasured:
        """Measure it."""
        return runner.remeasure(self)

    def failed(self, problem: Problem, reason: str) -> Remeasured:  # noqa: ARG002  the number is all there is to tell
        """It is not measured."""
        return Remeasured(number=self.number, metrics={}, reason=reason)


class Joined(_Record):
    """What came of it."""

    evaluator: str
    numbers: tuple[int, ...]
    metrics: dict[str, Measured]
    reason: str | None = None
    """Why it failed."""


class Join(_Record):
    """Asks what the models of the front come to together, on the test split."""

    answer: ClassVar[type[BaseModel]] = Joined
    limited: ClassVar[bool] = False

    kind: Literal["join"] = "join"
    evaluator: str
    """Its name in the study."""
    numbers: tuple[int, ...]
    """Of the trials whose models these are, without the dense one."""
    samples: int | None = None
    """Of the test split, as of `Remeasure`."""

    def perform(self, runner: Performer) -> Joined:
        """Measure it."""
        return runner.join(self)

    def failed(self, problem: Problem, reason: str) -> Joined:  # noqa: ARG002  the names are all there is to tell
        """It is not measured."""
        return Joined(evaluator=self.evaluator, numbers=self.numbers, metrics={}, reason=reason)


class Exported(_Record):
    """What came of it."""

    number: int
    exporter: str
    reason: str | None = None
    """Why it failed."""


class Export(_Record):
    """Asks for a saved model to be written in another form."""

    answer: ClassVar[type[BaseModel]] = Exported
    limited: ClassVar[bool] = False

    kind: Literal["export"] = "export"
    number: int
    """Of the trial."""
    exporter: str
    """Its name in the study."""
    model: Path
    """Folder of the saved model."""

    def perform(self, runner: Performer) -> Exported:
        """Write it."""
        return runner.export(self)

    def failed(self, problem: Problem, reason: str) -> Exported:  # noqa: ARG002  the names are all there is to tell
        """It is not written."""
        return Exported(number=self.number, exporter=self.exporter, reason=reason)


class Order(_Record):
    """A job as text, and the number by which its answer is known."""

    number: int
    job: Annotated[Trial | Calibrate | Probe | Refine | Remeasure | Join | Export, Field(discriminator="kind")]

    def answered(self, done: BaseModel) -> str:
        """An answer as text."""
        return f'{{"number": {self.number}, "done": {done.model_dump_json()}}}'


def perform(text: str, runner: Performer) -> str:
    """Do the job of an order.

    Returns:
        Its answer.
    """
    order = Order.model_validate_json(text)
    return order.answered(order.job.perform(runner))


def failed(text: str, problem: Problem, reason: str) -> str:
    """The answer to an order, if whoever worked on it was lost."""
    order = Order.model_validate_json(text)
    return order.answered(order.job.failed(problem, reason))


def limited(text: str) -> bool:
    """Whether the time limit of trials is for an order."""
    return Order.model_validate_json(text).job.limited
