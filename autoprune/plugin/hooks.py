"""The hooks: one to bring components, five to watch a study.

An implementation may take fewer arguments than its hook declares.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from autoprune.plugin.component import Component
from autoprune.plugin.results import Facts, StudyInfo, StudyOutcome, TrialResult

PROJECT = "autoprune"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin, or a method of an observer, as the hook of its name."""


@hookspec
def autoprune_components() -> Iterable[type[Component]]:  # type: ignore[empty-body]
    """Bring component classes. Called once, when the plugins are loaded."""


@hookspec
def autoprune_study_started(study: StudyInfo) -> Facts | None:
    """Fires before the first trial of a session; ``study.finished`` holds the trials of earlier sessions.

    Returns:
        What the user should be told and scripts need (``run_id``, ``url``), or None.
    """


@hookspec
def autoprune_probe_finished(study: StudyInfo, done: int, total: int) -> None:
    """Fires between the first trials, each time that the effects of some more cuts were measured.

    Args:
        study: The study.
        done: Measurements so far, this one included.
        total: Measurements in all.
    """


@hookspec
def autoprune_trial_finished(study: StudyInfo, result: TrialResult) -> None:
    """Fires in the coordinator's process when a trial is complete, failed or rejected, in the order of finishing."""


@hookspec
def autoprune_member_finished(study: StudyInfo, doing: str, done: int, total: int) -> None:
    """Fires after the trials, each time that one more member of the front was made again, measured or exported.

    Args:
        study: The study.
        doing: What is done with the front, in words; first told with none of them done.
        done: Members by now.
        total: Members in all.
    """


@hookspec
def autoprune_study_finished(study: StudyInfo, outcome: StudyOutcome) -> None:
    """Fires once at the end of a session, interrupted or not, after the front was measured on the test split."""
