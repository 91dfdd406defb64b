"""What executors are handed, and what they give back. All of it is data, so that it goes to other processes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from autoprune.plugin import Measured, TrialResult
from autoprune.study.space import Precision, Proposal


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cut(_Record):
    """Of one group alone."""

    scorer: str
    """Label of the scorer that chooses the units."""
    group: str
    units: int
    """How many go."""


class Probe(_Record):
    """Asks what cuts do to the predictions."""

    cuts: tuple[Cut, ...]
    samples: int
    """Validation samples to predict."""
    precision: Precision = "float32"


class Effect(_Record):
    """What one cut does."""

    cut: Cut
    divergence: float = 0.0
    """Mean Kullback–Leibler divergence of the predictions from the dense model's, in nats."""
    agreement: float = 0.0
    """Share of the samples whose largest output is still the dense model's."""
    reason: str | None = None
    """Why it could not be measured."""


class Probed(_Record):
    """What came of it."""

    effects: tuple[Effect, ...]


class Calibrate(_Record):
    """Asks whether a lower precision serves as well and faster."""


class Calibrated(_Record):
    """What came of it."""

    precision: Precision


class Remeasure(_Record):
    """Asks for a saved model, or for the dense one, to be measured on the test split."""

    number: int
    """Of the trial."""
    dense: bool


class Remeasured(_Record):
    """What came of it."""

    number: int
    metrics: dict[str, Measured]
    reason: str | None = None
    """Why it failed."""


Job = Proposal | Calibrate | Probe | Remeasure
Done = TrialResult | Calibrated | Probed | Remeasured
