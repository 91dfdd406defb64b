"""Tells observers what happens, each by itself: one that raises is warned about once and stops nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from autoprune.host.plugins import PluginHost
from autoprune.plugin import StudyInfo, StudyOutcome, TrialResult

log = logging.getLogger("autoprune")


class Observers:
    """Whoever observes one session: plugins, and what was handed to the search."""

    def __init__(self, host: PluginHost) -> None:
        self._host = host
        self._warned: set[str] = set()

    def started(self, study: StudyInfo) -> dict[str, str]:
        """Tell that a session begins.

        Returns:
            What observers want the user to be told.
        """
        facts: dict[str, str] = {}
        for told in self._tell("autoprune_study_started", study=study):
            facts |= dict(told) if isinstance(told, Mapping) else {}
        return facts

    def finished_probe(self, study: StudyInfo, done: int, total: int) -> None:
        """Tell that one more group's sensitivity is known."""
        self._tell("autoprune_probe_finished", study=study, done=done, total=total)

    def finished_trial(self, study: StudyInfo, result: TrialResult) -> None:
        """Tell that a trial ended."""
        self._tell("autoprune_trial_finished", study=study, result=result)

    def finished(self, study: StudyInfo, outcome: StudyOutcome) -> None:
        """Tell that the session ends."""
        self._tell("autoprune_study_finished", study=study, outcome=outcome)

    def _tell(self, hook: str, **arguments: Any) -> list[Any]:
        answers = []
        # Not through pluggy's own call, which stops at the first implementation that raises.
        for implementation in reversed(getattr(self._host.hook, hook).get_hookimpls()):
            try:
                answers.append(implementation.function(*(arguments[name] for name in implementation.argnames)))
            except (Exception, SystemExit) as error:
                if implementation.plugin_name not in self._warned:
                    self._warned.add(implementation.plugin_name)
                    log.warning(
                        "observer %s failed in %s and may miss what follows: %s: %s",
                        _name(implementation.plugin),
                        hook,
                        type(error).__name__,
                        error,
                        exc_info=log.isEnabledFor(logging.DEBUG),
                    )
        return answers


def _name(plugin: object) -> str:
    return str(getattr(plugin, "__name__", type(plugin).__qualname__))
