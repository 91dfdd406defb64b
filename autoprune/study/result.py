"""What a search gives back to Python and, as JSON, to scripts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.plugin import Artifact, Front, StudyInfo, StudyOutcome
from autoprune.study.exporting import read_exports

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SearchResult:
    """A session's end: the front, every trial and the saved models."""

    study: StudyInfo
    outcome: StudyOutcome
    facts: dict[str, str] = field(default_factory=dict)
    """What observers tell, such as the tracker's ``run_id`` and ``url``."""

    @property
    def front(self) -> Front:
        """The Pareto front, measured on the validation and the test split."""
        return self.outcome.front

    @property
    def models(self) -> dict[int, Path]:
        """Folders for `autoprune.load_pruned`, by trial number; the front's models only."""
        return {point.trial.number: point.trial.model for point in self.front.points if point.trial.model is not None}

    @property
    def exports(self) -> dict[int, dict[str, Artifact]]:
        """What the spec's exporters wrote of the front's models: by trial number, then by the exporter's name."""
        return {number: read_exports(model) for number, model in self.models.items()}

    @property
    def trials(self) -> pd.DataFrame:
        """One row per trial: metrics by name, achieved ratios as ``ratio.<group>``, other knobs as ``knob.<name>``."""
        import pandas as pd

        front = {point.trial.number for point in self.front.points}
        rows = [
            {
                "number": trial.number,
                "state": trial.state,
                "origin": trial.origin,
                "front": trial.number in front,
                "feasible": trial.feasible,
                "scorer": trial.scorer,
                "strategy": trial.strategy,
                "precision": trial.precision,
                **{name: metric.value for name, metric in trial.metrics.items()},
                **{f"ratio.{group}": ratio for group, ratio in trial.achieved.items()},
                **{f"knob.{name}": chosen for name, chosen in trial.knobs.items()},
                "seconds": (trial.finished - trial.started).total_seconds(),
                "reason": trial.reason,
            }
            for trial in self.outcome.trials
        ]
        return pd.DataFrame(rows).set_index("number") if rows else pd.DataFrame()

    def to_json(self) -> dict[str, Any]:
        """The document that ``autoprune search --json`` prints."""
        states = Counter(trial.state for trial in self.outcome.trials)
        exports = self.exports
        return {
            "study": self.study.name,
            "folder": str(self.study.folder),
            "run_id": self.facts.get("run_id"),
            "url": self.facts.get("url"),
            "interrupted": self.outcome.interrupted,
            "trials": {state: states[state] for state in ("complete", "failed", "rejected")},
            "objectives": dict(self.front.objectives),
            "hypervolume": self.front.hypervolume,
            "reference": dict(self.front.reference),
            "front": [
                {
                    "trial": point.trial.number,
                    "metrics": {name: metric.value for name, metric in point.trial.metrics.items()},
                    "test": {name: metric.value for name, metric in point.test.items()},
                    "ratios": dict(point.trial.achieved),
                    "knobs": dict(point.trial.knobs),
                    "model": None if point.trial.model is None else str(point.trial.model),
                    "exports": {
                        name: {"path": str(artifact.path), "description": artifact.description}
                        for name, artifact in exports.get(point.trial.number, {}).items()
                    },
                }
                for point in self.front.points
            ],
        }
