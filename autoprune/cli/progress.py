"""What is seen while a search runs, on stderr: a live display on a terminal, a line per trial elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from autoprune.cli.reply import table
from autoprune.plugin import StudyInfo, TrialResult, hookimpl
from autoprune.report import heading, number

_SHOWN = 8
"""Members of the front on display."""
_MEMORY_S = 3600.0
"""The time left is told from the trials of the last hour."""


class Lines:
    """A line per trial."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    @hookimpl
    def autoprune_study_started(self, study: StudyInfo) -> None:
        """Say where the study is, and how much of it is done."""
        done = f", {len(study.finished)} of them done" if study.finished else ""
        self._say(f"{study.name}: {study.trials} trials{done}, in {study.folder}")

    @hookimpl
    def autoprune_probe_finished(self, done: int, total: int) -> None:
        """Say when it is known what each group tolerates."""
        if done == total:
            self._say(f"measured how sensitive the groups are: {total} measurements")

    @hookimpl
    def autoprune_trial_finished(self, study: StudyInfo, result: TrialResult) -> None:
        """Say what came of the trial."""
        self._say(in_words(study, result))

    def _say(self, line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


class Display:
    """A bar with the time left, and the front as it stands."""

    def __init__(self, console: Console) -> None:
        """Show it on that console, which is a terminal."""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("trials, for"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=_MEMORY_S,
        )
        self._task = self._bar.add_task("loading the model and the data", total=None)
        self._front: tuple[TrialResult, ...] = ()
        # Redrawn rarely, so as not to disturb the latencies that are measured meanwhile.
        self._live = Live(self._bar, console=console, transient=True, refresh_per_second=1)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    @hookimpl
    def autoprune_study_started(self, study: StudyInfo) -> None:
        """Fill the bar as far as earlier sessions came."""
        self._bar.update(self._task, description=study.name, total=study.trials, completed=len(study.finished))
        self._show(study, study.finished)

    @hookimpl
    def autoprune_probe_finished(self, study: StudyInfo, done: int, total: int) -> None:
        """Say how far the measuring of sensitivities is."""
        left = f": how sensitive are the groups? {done} of {total}" if done < total else ""
        self._bar.update(self._task, description=f"{study.name}{left}")

    @hookimpl
    def autoprune_trial_finished(self, study: StudyInfo, result: TrialResult) -> None:
        """Move the bar and show the front."""
        self._bar.advance(self._task)
        if result.state == "failed":
            self._live.console.print(in_words(study, result), markup=False, highlight=False)
        if self._bar.finished:
            self._bar.update(self._task, description="measuring the front on the test split")
        self._show(study, (result,))

    def _show(self, study: StudyInfo, results: tuple[TrialResult, ...]) -> None:
        from autoprune.study import pareto_front

        self._front = pareto_front([*self._front, *results], study.objectives)
        columns = [f"#{heading(name, study.units[name])}" for name in study.objectives]
        rows = table("#trial", *columns, title=f"front of {len(self._front)}")
        for trial in _spread(self._front):
            values = (number(trial.metrics[name].value, study.units[name]) for name in study.objectives)
            rows.add_row(str(trial.number), *values)
        self._live.update(Group(rows, self._bar) if self._front else self._bar)


def progress(*, live: bool) -> Lines | Display:
    """The observer to show a search with: live where stderr is a terminal."""
    console = Console(stderr=True)
    return Display(console) if live and console.is_terminal else Lines()


def in_words(study: StudyInfo, result: TrialResult) -> str:
    """What came of a trial."""
    if result.state != "complete":
        return f"trial {result.number} {result.state}: {result.reason}"
    values = (
        f"{heading(n, study.units[n])} {number(result.metrics[n].value, study.units[n])}" for n in study.objectives
    )
    remark = "" if result.feasible else ", out of bounds"
    return f"trial {result.number} ({result.origin}): {', '.join(values)}{remark}"


def _spread(front: tuple[TrialResult, ...]) -> list[TrialResult]:
    """A few members from one end of the front to the other."""
    if len(front) <= _SHOWN:
        return list(front)
    return [front[round(i * (len(front) - 1) / (_SHOWN - 1))] for i in range(_SHOWN)]
