"""What a search is doing, kept up by hooks; whoever shows it derives from this."""

from __future__ import annotations

import contextvars
import threading
import time
from types import TracebackType
from typing import Self

from autoprune.plugin import StudyInfo, StudyOutcome, TrialResult, hookimpl
from autoprune.plugin.front import RunningFront
from autoprune.report import heading, number

_BEAT_S = 1.0
_SHOWN = 8
"""Members of the front on display."""


class Watch:
    """Follows one session. `beat` is called each second, by a thread of its own, between entering and leaving."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self.doing = "getting ready"
        """In words."""
        self.study: StudyInfo | None = None
        self.done = 0
        """Trials, of earlier sessions too."""
        self.failed = 0
        """Trials of this session."""
        self.began = time.monotonic()
        """The session, and from the first trial on those."""
        self.earlier = 0
        """Trials of earlier sessions."""
        self._front: RunningFront | None = None
        self._linked = False
        """Whether it was said where MLflow shows the study."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beats, name="autoprune-progress", daemon=True)

    def __enter__(self) -> Self:
        # What a notebook's cell prints is told apart by its context.
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._beats,), name="autoprune-progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def tell(self, doing: str) -> None:
        """Something else is being done now."""
        self.doing = doing
        self.show()

    def say(self, line: str, result: TrialResult | None = None) -> None:
        """There is news, of a trial perhaps."""

    def note(self, line: str) -> None:
        """There is something to be kept in view."""
        self.say(line)

    def show(self) -> None:
        """Something has changed."""

    def beat(self) -> None:
        """A second has passed."""

    @property
    def front(self) -> list[TrialResult]:
        """A few members of the front, from one end to the other."""
        members = self._front.members if self._front else ()
        if len(members) <= _SHOWN:
            return list(members)
        return [members[round(i * (len(members) - 1) / (_SHOWN - 1))] for i in range(_SHOWN)]

    @property
    def found(self) -> int:
        """How many are on the front."""
        return len(self._front) if self._front else 0

    @hookimpl
    def autoprune_study_started(self, study: StudyInfo) -> None:
        """Say where the study is, and how much of it is done."""
        self.study, self.done, self.earlier = study, len(study.finished), len(study.finished)
        self.began = time.monotonic()
        self._front = RunningFront(study.objectives, study.finished)
        done = f", {self.done} of them done" if self.done else ""
        self.say(f"{study.name}: {study.trials} trials{done}, in {study.folder}")
        self.tell("searching")

    @hookimpl
    def autoprune_probe_finished(self, done: int, total: int) -> None:
        """Say how far the measuring of sensitivities is."""
        if done == total:
            self.say(f"measured how sensitive the groups are: {total} measurements")
        self.tell("searching" if done == total else f"how sensitive are the groups? {done} of {total}")

    @hookimpl
    def autoprune_trial_finished(self, study: StudyInfo, result: TrialResult) -> None:
        """Say what came of the trial."""
        self.done += 1
        self.failed += result.state == "failed"
        if self._front is not None:
            self._front.add(result)
        self.say(in_words(study, result), result)
        self.show()

    @hookimpl
    def autoprune_member_finished(self, doing: str, done: int, total: int) -> None:
        """Say what is done with the front."""
        self.tell(f"{doing}, {done} of {total}")

    @hookimpl
    def autoprune_study_finished(self, outcome: StudyOutcome) -> None:
        """Say that it is over."""
        self.tell("interrupted" if outcome.interrupted else "done")

    def _beats(self) -> None:
        while not self._ended.wait(_BEAT_S):
            self._link()
            self.beat()

    def _link(self) -> None:
        """Say where MLflow shows the study, as soon as it has it: a server may come late."""
        if self._linked or self.study is None or not self.study.spec.tracking.enabled:
            return
        from autoprune.tracking.links import shown_at

        if where := shown_at(self.study):
            self._linked = True
            self.note(f"in MLflow: {where}")


def in_words(study: StudyInfo, result: TrialResult) -> str:
    """What came of a trial."""
    if result.state != "complete":
        return f"trial {result.number} {result.state}: {result.reason}"
    remark = "" if result.feasible else ", out of bounds"
    told = (f"{title} {value}" for title, value in zip(titles(study), values(study, result), strict=True))
    return f"trial {result.number} ({result.origin}): {', '.join(told)}{remark}"


def titles(study: StudyInfo) -> list[str]:
    """The objectives with their units."""
    return [heading(name, study.units[name]) for name in study.objectives]


def values(study: StudyInfo, result: TrialResult) -> list[str]:
    """Their values in a trial."""
    return [number(result.metrics[name].value, study.units[name]) for name in study.objectives]


def lasted(seconds: float) -> str:
    """``12 s``, ``4 min 12 s`` or ``1 h 4 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
