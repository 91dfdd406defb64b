"""Tells observers what happens, each by itself: one that raises is warned about once and stops nothing."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from autoprune.host.plugins import PluginHost
from autoprune.plugin import Observer, ObserverContext, StudyInfo, StudyOutcome, TrialResult
from autoprune.study.naming import numbered
from autoprune.study.own_files import OwnFiles

log = logging.getLogger("autoprune")

OBSERVERS_FOLDER = "observers"


class Observers:
    """Whoever observes one session: plugins and what was handed to the search, by hooks; and the spec's observers."""

    def __init__(self, host: PluginHost, components: tuple[Observer, ...], *, study: Path, seed: int) -> None:
        """Nobody has been told anything.

        Args:
            host: Knows the hooks.
            components: What the spec names.
            study: The study's folder.
            seed: The study's.
        """
        self._host = host
        self._named = numbered(components)
        self._folder = study / OBSERVERS_FOLDER
        self._seed = seed
        self._caches: dict[str, dict[Hashable, Any]] = {name: {} for name in self._named}
        self._files = OwnFiles(study)
        self._warned: set[tuple[str, str]] = set()

    def started(self, study: StudyInfo) -> dict[str, str]:
        """Tell that a session begins.

        Returns:
            What observers want the user to be told.
        """
        facts: dict[str, str] = {}
        for told in self._tell("study_started", study=study):
            facts |= dict(told) if isinstance(told, Mapping) else {}
        return facts

    def finished_probe(self, study: StudyInfo, done: int, total: int) -> None:
        """Tell that the effects of some more cuts are known."""
        self._tell("probe_finished", study=study, done=done, total=total)

    def finished_trial(self, study: StudyInfo, result: TrialResult) -> None:
        """Tell that a trial ended."""
        self._tell("trial_finished", study=study, result=result)

    def finished_member(self, study: StudyInfo, doing: str, done: int, total: int) -> None:
        """Tell how far what is done with the front is."""
        self._tell("member_finished", study=study, doing=doing, done=done, total=total)

    def finished(self, study: StudyInfo, outcome: StudyOutcome) -> None:
        """Tell that the session ends."""
        self._tell("study_finished", study=study, outcome=outcome)

    def _tell(self, what: str, **arguments: Any) -> list[Any]:
        answers = []
        for call in self._calls(what, arguments):
            self._files.note()
            try:
                answers.append(call.run())
            except (Exception, SystemExit) as error:
                if self._first("failed", call.key):
                    log.warning(
                        "observer %s failed in %s and may miss what follows: %s: %s",
                        call.name,
                        call.hook,
                        type(error).__name__,
                        " ".join(str(error).split()),
                        exc_info=log.isEnabledFor(logging.DEBUG),
                    )
            into = self._folder / re.sub(r"[^\w.-]", "_", call.name)
            if (changed := self._files.put_back(into)) and self._first("overwrote", call.key):
                log.warning(
                    "observer %s wrote %s into the study's folder, where that is the study's own: it is put back, and"
                    " what was written is in %s. Write into a folder of your own, such as ctx.folder",
                    call.name,
                    ", ".join(changed),
                    into,
                )
        return answers

    def _calls(self, what: str, arguments: Mapping[str, Any]) -> Iterator[_Call]:
        hook = f"autoprune_{what}"
        # Not through pluggy's own call, which stops at the first implementation that raises.
        for implementation in reversed(getattr(self._host.hook, hook).get_hookimpls()):
            taken = [arguments[name] for name in implementation.argnames]
            name = _name(implementation.plugin)
            yield _Call(implementation.plugin_name, name, hook, partial(implementation.function, *taken))
        for name, observer in self._named.items():
            yield _Call(f"{OBSERVERS_FOLDER} {name}", name, what, partial(self._told, name, observer, what, arguments))

    def _told(self, name: str, observer: Observer, what: str, arguments: Mapping[str, Any]) -> Any:
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        context = ObserverContext(seed=self._seed, cache=self._caches[name], folder=folder)
        return getattr(observer, what)(**arguments, ctx=context)

    def _first(self, what: str, key: str) -> bool:
        """Whether that is news of an observer."""
        known = (what, key) in self._warned
        self._warned.add((what, key))
        return not known


@dataclass(frozen=True)
class _Call:
    """Of one observer."""

    key: str
    """Tells observers apart."""
    name: str
    """For the user."""
    hook: str
    run: Callable[[], Any]


def _name(plugin: object) -> str:
    return str(getattr(plugin, "__name__", type(plugin).__qualname__))
