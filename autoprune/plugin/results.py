"""What observers see: the study, its trials and the front. All of it is data and goes to JSON and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from autoprune.plugin.likeness import alike
from autoprune.plugin.values import Direction, Measured
from autoprune.spec import Spec

TrialState = Literal["complete", "failed", "rejected"]
Origin = Literal["dense", "ladder", "warm-start", "sampler"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrialResult(_Record):
    """One finished trial."""

    number: int
    state: TrialState
    origin: Origin
    ratios: dict[str, float]
    """Asked ratio per group."""
    achieved: dict[str, float]
    """Ratio per group after rounding to whole units."""
    scorers: dict[str, str]
    """Label of the scorer that ranked it, per group that lost units."""
    strategy: str
    """Label of its strategy."""
    knobs: dict[str, float | str] = {}
    """What was chosen besides the ratios."""
    precision: str = "float32"
    """Of forward passes without gradients, ``float32`` or ``bfloat16``."""
    metrics: dict[str, Measured]
    """Everything measured on the validation split; for a rejected trial what was known by then."""
    violations: dict[str, float] = {}
    """Per constraint how far it is broken, ≤ 0 where it holds."""
    durations_s: dict[str, float] = {}
    """Wall-clock seconds per stage: score, cut, recover, each evaluator."""
    reason: str | None = None
    """Why it failed or was rejected."""
    traceback: str | None = None
    """Where it failed."""
    model: Path | None = None
    """Folder of the saved model, while the trial is on the front."""
    seed: int
    started: datetime
    finished: datetime

    @property
    def scorer(self) -> str:
        """The scorers in words, ``taylor`` or ``taylor 5, l1 3``; empty for the dense model."""
        counts = Counter(self.scorers.values()).most_common()
        return counts[0][0] if len(counts) == 1 else ", ".join(f"{label} {count}" for label, count in counts)

    @property
    def feasible(self) -> bool:
        """Complete and within every constraint."""
        return self.state == "complete" and all(v <= 0 for v in self.violations.values())


class FrontPoint(_Record):
    """One member of the Pareto front."""

    trial: TrialResult
    """With the metrics that its saved model has: those of the search, unless it was made again."""
    searched: dict[str, Measured] = {}
    """What the search had measured on the validation split, where the final version of the strategy (a larger repair)
    made the model again once the trials were done; empty where the model still is that of the search."""
    test: dict[str, Measured] = {}
    """Measured again on the test split, on the same samples for all members and the dense model, see
    `StudyOutcome.test_part`; empty while the search runs."""
    whole_test: dict[str, Measured] = {}
    """The same on all samples of the test split, where ``test`` is of a part of them: of the member that the report
    names."""

    def __repr_args__(self) -> Iterator[tuple[str, object]]:
        """What tells points apart."""
        yield "trial", self.trial.number
        for name, measured in self.trial.metrics.items():
            yield name, float(f"{measured.value:.4g}")
        yield "model", str(self.trial.model)


class Front(_Record):
    """The feasible trials that no other feasible trial dominates, best first objective first."""

    points: tuple[FrontPoint, ...]
    objectives: dict[str, Direction]
    hypervolume: float
    """On the validation values of the saved models, against ``reference``; 0 for an empty front."""
    reference: dict[str, float]
    """Reference point of the hypervolume: 0 for what is maximised; for what is minimised 1.1 × the dense model's value
    if it is a cost, such as latency, and twice that value if it is not, such as a loss."""

    def alike(self) -> dict[int, tuple[int, ...]]:
        """Per member, by its trial's number, the trials of the others that nothing measured tells apart from it.

        What is exact, such as MACs, is different between any two members and is not asked; of what has an interval,
        test values are compared where both have them. Both were measured on the same samples, which makes differences
        surer than intervals of independent values say: what is told apart here really is.
        """
        numbers = [point.trial.number for point in self.points]
        pairs = alike([p.trial.metrics for p in self.points], [p.test for p in self.points], self.objectives)
        return {
            number: tuple(other for other, same in zip(numbers, row, strict=True) if same)
            for number, row in zip(numbers, pairs.tolist(), strict=True)
        }


class GroupSummary(_Record):
    """One group of the search space."""

    name: str
    units: int
    granularity: str
    layers: tuple[str, ...]
    low: float
    high: float
    """Bounds of its ratio; both 0 for a group that is kept."""


class DatasetSummary(_Record):
    """One split of the data."""

    split: str
    samples: int
    digest: str
    """Of what the spec says of the data, and of some of the split's samples."""


class StudyInfo(_Record):
    """A study, as observers see it."""

    name: str
    folder: Path
    """Holds the journal, the spec, the saved models and what trackers need to continue."""
    spec: Spec
    spec_text: str
    trials: int
    """The asked number of trials."""
    objectives: dict[str, Direction]
    constraints: dict[str, str]
    units: dict[str, str]
    """Unit of every metric."""
    costs: tuple[str, ...]
    """Metrics that say what a model costs, such as its size and its latency; the others say how well it does."""
    groups: tuple[GroupSummary, ...]
    environment: dict[str, str]
    """Versions, machine, device, seed, spec hash, and the git commit of the spec's folder."""
    datasets: tuple[DatasetSummary, ...] = ()
    """The three splits."""
    finished: tuple[TrialResult, ...] = ()
    """Trials of an earlier session, when the study is resumed."""


class StudyOutcome(_Record):
    """How a study ended."""

    trials: tuple[TrialResult, ...]
    """As the search measured them, those on the front too."""
    front: Front
    dense_test: dict[str, Measured] = {}
    """The dense model on the test split, on the same samples as the front's members, to compare them with; empty where
    it was not measured."""
    dense_whole_test: dict[str, Measured] = {}
    """The same on all samples, where ``dense_test`` is of a part of them."""
    together: dict[str, Measured] = {}
    """What evaluators measured of all pruned members of the front together, such as what they leak side by side, on
    the samples of ``dense_test``; see `Evaluator.of_front`."""
    test_part: tuple[int, int] | None = None
    """How many of how many samples of the test split ``dense_test`` and each ``test`` are of; None where of all."""
    interrupted: bool = False
    """Ended before the asked number of trials, and not by the spec's time limit: by Ctrl-C, or killed."""


Facts = Mapping[str, str]
"""What an observer wants the user to be told, e.g. ``run_id`` and ``url``."""
