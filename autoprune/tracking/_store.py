"""The only import of MLflow: a small client that is quiet, and gives up quickly.

Left alone, MLflow retries a dead server for minutes, prints to stdout and sends usage data from a background thread
beside the latency measurements. The settings that stop this hold during our own calls only, and what the user has set
stays as it is.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from autoprune.plugin.results import DatasetSummary
from autoprune.spec.secrets import masked
from autoprune.tracking._stored import StoredModel, StoredRun
from autoprune.tracking._uri import artifact_location, sqlite_file

_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_BATCH = 100
_MOST_CAUSE = 300
_SILENT = logging.CRITICAL + 1


@contextmanager
def quietly() -> Iterator[None]:
    """Our settings, no log lines and no warnings, while MLflow is called."""
    ours = {name: value for name, value in _SETTINGS.items() if name not in os.environ}
    os.environ.update(ours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow  # noqa: F401 - configures its logger, so it comes before the next line

        logger = logging.getLogger("mlflow")
        level = logger.level
        logger.setLevel(_SILENT)
        try:
            yield
        finally:
            logger.setLevel(level)
            for name in ours:
                os.environ.pop(name, None)


def cause_of(error: BaseException, uri: str) -> str:
    """What the operating system or SQLite said, which MLflow wraps in several layers; else what MLflow said."""
    chain: list[BaseException] = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    root = next((e for e in reversed(chain) if isinstance(e, OSError | sqlite3.Error)), error)
    return masked(" ".join(str(root).split()), of=(uri,))[:_MOST_CAUSE] or type(root).__name__


class Store:
    """A tracking server or database. Call it inside `quietly`; every method raises what MLflow raises."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        self.uri = uri
        _check_database(uri)
        self.check()
        self._client = MlflowClient(uri)

    def check(self) -> None:
        """Fail within two seconds where a SQLite file is locked: MLflow itself would wait for twenty."""
        if file := sqlite_file(self.uri):
            with closing(sqlite3.connect(file, timeout=2)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.rollback()

    def checkpoint(self) -> None:
        """Bring what is in a SQLite database's write-ahead log into its file, if no one reads: a copy is whole then."""
        if file := sqlite_file(self.uri):
            with suppress(sqlite3.Error), closing(sqlite3.connect(file, timeout=2)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, which is created where there is none.

        Raises:
            LookupError: It has been deleted.
        """
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, artifact_location=artifact_location(self.uri)))
            except MlflowException:  # another study has just created it
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise LookupError(f"the experiment {name!r} is deleted: restore it, or set tracking.experiment to another")
        return str(found.experiment_id)

    def runs(self, experiment: str, tag: str, value: str) -> list[StoredRun]:
        """The runs, not deleted, that bear the tag, oldest first."""
        found: list[StoredRun] = []
        token = None
        while True:
            page = self._client.search_runs(
                [experiment],
                f"tags.`{tag}` = '{value}'",
                max_results=1000,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            found += [StoredRun.of(run) for run in page]
            token = page.token
            if not token:
                return found

    def create(self, experiment: str, name: str, *, start_ms: int | None, tags: Mapping[str, str]) -> str:
        """Create a run; gives its id."""
        run = self._client.create_run(experiment, start_time=start_ms, tags=dict(tags), run_name=name)
        return str(run.info.run_id)

    def log(
        self,
        run_id: str,
        *,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        at_ms: int | None = None,
    ) -> None:
        """Log in one request, or in as few as the limits on one request allow."""
        from mlflow.entities import Metric, Param, RunTag

        moment = int(time.time() * 1000) if at_ms is None else at_ms
        batches = [
            _chunks([Metric(name, value, moment, 0) for name, value in (metrics or {}).items()]),
            _chunks([Param(name, value) for name, value in (params or {}).items()]),
            _chunks([RunTag(name, value) for name, value in (tags or {}).items()]),
        ]
        for place in range(max(map(len, batches))):
            metric, param, tag = (chunks[place] if place < len(chunks) else [] for chunks in batches)
            self._client.log_batch(run_id, metrics=metric, params=param, tags=tag)

    def reopen(self, run_id: str) -> None:
        """Set a run's status back to running."""
        self._client.update_run(run_id, status="RUNNING")

    def end(self, run_id: str, status: str, *, end_ms: int | None = None) -> None:
        """Set a run's last status."""
        self._client.set_terminated(run_id, status=status, end_time=end_ms)

    def delete(self, run_id: str) -> None:
        """Delete a run; MLflow can restore it."""
        self._client.delete_run(run_id)

    def inputs(self, run_id: str, name: str, source: str, splits: Sequence[DatasetSummary]) -> None:
        """Say which data a run had; the same again changes nothing.

        Args:
            run_id: The run.
            name: Of the data.
            source: What the spec says of it, as JSON.
            splits: What it came to.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(
                    name=f"{name} {split.split}"[:500],
                    digest=split.digest,
                    source_type="autoprune",
                    source=source,
                    profile=json.dumps({"samples": split.samples}),
                ),
                [InputTag("mlflow.data.context", split.split)],
            )
            for split in splits
        ]
        self._client.log_inputs(run_id, inputs)

    def text(self, run_id: str, name: str, text: str) -> None:
        """Store a text as an artifact, over an earlier one."""
        self._client.log_text(run_id, text, name)

    def models(self, experiment: str, tag: str, value: str) -> list[StoredModel]:
        """The models, not deleted, that bear the tag."""
        found: list[StoredModel] = []
        token = None
        while True:
            page = self._client.search_logged_models([experiment], f"tags.`{tag}` = '{value}'", page_token=token)
            found += map(StoredModel.of, page)
            token = page.token
            if not token:
                return found

    def create_model(
        self, experiment: str, name: str, *, run_id: str, tags: Mapping[str, str], params: Mapping[str, str]
    ) -> StoredModel:
        """Announce a model that a run made."""
        made = self._client.create_logged_model(
            experiment, name=name, source_run_id=run_id, tags=dict(tags), params=dict(params)
        )
        return StoredModel.of(made)

    def model_files(self, model_id: str, folder: Path) -> None:
        """Store a folder's files as those of a model."""
        self._client.log_model_artifacts(model_id, str(folder))

    def end_model(self, model_id: str, *, run_id: str, metrics: Mapping[str, float]) -> None:
        """Tie a model to its run, log what was measured of it, and call it ready."""
        from mlflow.entities import LoggedModelOutput, Metric

        moment = int(time.time() * 1000)
        self._client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
        for chunk in _chunks([Metric(name, value, moment, 0, model_id=model_id) for name, value in metrics.items()]):
            self._client.log_batch(run_id, metrics=chunk)
        self._client.finalize_logged_model(model_id, "READY")

    def tag_model(self, model_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a model."""
        self._client.set_logged_model_tags(model_id, dict(tags))

    def delete_model(self, model_id: str) -> None:
        """Delete a model."""
        self._client.delete_logged_model(model_id)

    def tag_experiment(self, experiment: str, name: str, value: str) -> None:
        """Set a tag of the experiment."""
        self._client.set_experiment_tag(experiment, name, value)

    def experiment_tags(self, experiment: str) -> dict[str, str]:
        """The tags of the experiment."""
        return dict(self._client.get_experiment(experiment).tags)

    def untag_experiment(self, experiment: str, name: str) -> None:
        """Remove a tag of the experiment."""
        self._client.delete_experiment_tag(experiment, name)


def _chunks(items: Sequence[Any]) -> list[list[Any]]:
    return [list(items[start : start + _BATCH]) for start in range(0, len(items), _BATCH)]


def _check_database(uri: str) -> None:
    """Connect once: MLflow itself tries ten times, over 100 s, before it says that a database cannot be opened."""
    from mlflow.store.db.db_types import DATABASE_ENGINES
    from mlflow.store.db.utils import create_sqlalchemy_engine

    if uri.partition(":")[0].partition("+")[0] not in DATABASE_ENGINES:
        return
    if (file := sqlite_file(uri)) and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(sqlite3.Error), closing(sqlite3.connect(file)) as connection:  # not every file system can
            # For good. MLflow commits four times a trial, and a commit to a write-ahead log waits less for the disk.
            connection.execute("PRAGMA journal_mode = WAL")
    connect: Callable[[str], Any] = create_sqlalchemy_engine
    engine = connect(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()
