"""The MLflow tracker, an observer plugin: a parent run per study, a child run per trial.

It is loaded through the entry point ``mlflow`` like any plugin. MLflow itself is imported when a study starts, and may
be missing. Whatever goes wrong with it is warned about once and made up for later; the search never notices.
"""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.plugin.hooks import hookimpl
from autoprune.plugin.results import Facts, StudyInfo, StudyOutcome, TrialResult

if TYPE_CHECKING:
    from autoprune.tracking._recorder import Recorder

log = logging.getLogger("autoprune")


class _MlflowTracker:
    """Hands each hook to the recorder of its study."""

    def __init__(self) -> None:
        self._recorders: dict[Path, Recorder] = {}

    @hookimpl
    def autoprune_study_started(self, study: StudyInfo) -> Facts | None:
        """Open the study's run, or create it, and record the trials of earlier sessions that it lacks."""
        if not study.spec.tracking.enabled:
            return None
        from autoprune.tracking.health import MISSING, installed

        if not installed():
            sync = f"autoprune sync {shlex.quote(str(study.folder))}"
            log.warning("nothing is tracked. %s; afterwards, %s sends what was searched", MISSING, sync)
            return None
        from autoprune.tracking._recorder import Recorder

        recorder = self._recorders[study.folder] = Recorder(study)
        return recorder.start()

    @hookimpl
    def autoprune_trial_finished(self, study: StudyInfo, result: TrialResult) -> None:
        """Record the trial, and those that could not be recorded before."""
        if recorder := self._recorders.get(study.folder):
            recorder.add(result)

    @hookimpl
    def autoprune_study_finished(self, study: StudyInfo, outcome: StudyOutcome) -> None:
        """Record what is missing, the front, the report and the models, and end the study's run."""
        if recorder := self._recorders.pop(study.folder, None):
            recorder.finish(outcome)


_tracker = _MlflowTracker()
autoprune_study_started = _tracker.autoprune_study_started
autoprune_trial_finished = _tracker.autoprune_trial_finished
autoprune_study_finished = _tracker.autoprune_study_finished
