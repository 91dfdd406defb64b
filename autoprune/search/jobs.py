"""What executors are handed, and what they give back. All of it is data, so that it goes to other processes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from autoprune.plugin import Measured, Sensitivity, TrialResult
from autoprune.search.space import Precision, Proposal


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Probe(_Record):
    """Asks how sensitive a group is."""

    scorer: str
    """Label of the scorer that chooses the units."""
    group: str
    cut_units: tuple[int, ...]
    samples: int
    """Validation samples to predict."""
    precision: Precision = "float32"


class Probed(_Record):
    """What came of it."""

    scorer: str
    group: str
    sensitivity: Sensitivity | None = None
    reason: str | None = None
    """Why it failed."""


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
