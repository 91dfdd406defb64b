"""Runs and models as they stand in MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class StoredRun:
    """A run as it stands in MLflow."""

    run_id: str
    status: str
    tags: dict[str, str]
    params: frozenset[str]
    """Names of the parameters."""

    @property
    def ended(self) -> bool:
        """Finished, failed or killed."""
        return self.status not in ("RUNNING", "SCHEDULED")

    @classmethod
    def of(cls, run: Any) -> Self:
        """Of MLflow's ``Run``."""
        return cls(run.info.run_id, run.info.status, run.data.tags, frozenset(run.data.params))


@dataclass(frozen=True)
class StoredModel:
    """A model as it stands in MLflow."""

    model_id: str
    run_id: str
    location: str
    """Where its files are."""
    ready: bool
    """Whether it was stored completely."""
    tags: dict[str, str]

    @classmethod
    def of(cls, model: Any) -> Self:
        """Of MLflow's ``LoggedModel``."""
        ready = str(model.status) == "READY"
        return cls(model.model_id, model.source_run_id, model.artifact_location, ready, dict(model.tags))
