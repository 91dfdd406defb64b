"""Keeps the page of an experiment in step with its studies: their views, and its description."""

from __future__ import annotations

from autoprune.tracking._descriptions import described_by, experiment_note
from autoprune.tracking._store import Store
from autoprune.tracking._view import SharedView, outdated

_NOTE = "mlflow.note.content"


def save_pages(store: Store, experiment: str, *views: SharedView) -> None:
    """Save a study's views, drop those of studies long past, and write the experiment's description anew.

    Args:
        store: Where.
        experiment: Its id.
        views: Of one study.
    """
    for view in views:
        store.tag_experiment(experiment, view.tag, view.value)
    tags = store.experiment_tags(experiment)
    for name in outdated(tags):
        store.untag_experiment(experiment, name)
    runs = store.runs(experiment, "autoprune.role", "study")
    studies = [described_by(run.tags, experiment, run.run_id) for run in reversed(runs)]
    store.tag_experiment(experiment, _NOTE, experiment_note(tags.get(_NOTE, ""), studies))
