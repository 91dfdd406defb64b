"""What is seen while a search runs: a live display in a notebook or on a terminal, lines on stderr elsewhere."""

from __future__ import annotations

import sys
import time
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

from autoprune.api.printed import table
from autoprune.api.watch import Watch, lasted, titles, values
from autoprune.plugin import StudyInfo, TrialResult, hookimpl

_MEMORY_S = 3600.0
"""The time left is told from the trials of the last hour."""
_PATIENCE_S = 60.0
"""Of whoever sees lines alone, before they wonder whether anything happens; before the first trial less."""
_PATIENCE_AT_FIRST_S = 10.0


class Lines(Watch):
    """A line per trial, and one whenever nothing was printed for a while."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        super().__init__()
        self._said = time.monotonic()

    def say(self, line: str, result: TrialResult | None = None) -> None:  # noqa: ARG002  all alike
        """Print it."""
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
        self._said = time.monotonic()

    def beat(self) -> None:
        """Say what takes so long."""
        now = time.monotonic()
        if now - self._said >= (_PATIENCE_S if self.study else _PATIENCE_AT_FIRST_S):
            trials = f"{self.done} of {self.study.trials} trials, " if self.study else ""
            self.say(f"… {self.doing}, {trials}{lasted(now - self.began)}")


class Display(Watch):
    """A bar with the time left, and the front as it stands."""

    def __init__(self, console: Console) -> None:
        """Show it on that console, which is a terminal."""
        super().__init__()
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
        self._task = self._bar.add_task(self.doing, total=None)
        # Redrawn rarely, so as not to disturb the latencies that are measured meanwhile.
        self._live = Live(self._bar, console=console, transient=True, refresh_per_second=1)

    def __enter__(self) -> Self:
        self._live.start()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._live.stop()

    @hookimpl
    def autoprune_study_started(self, study: StudyInfo) -> None:
        """Fill the bar as far as earlier sessions came."""
        self._bar.update(self._task, total=study.trials, completed=len(study.finished))
        super().autoprune_study_started(study)

    def say(self, line: str, result: TrialResult | None = None) -> None:
        """Move the bar; print what failed."""
        if result is not None:
            self._bar.advance(self._task)
        if result is not None and result.state == "failed":
            self._live.console.print(line, markup=False, highlight=False)

    def note(self, line: str) -> None:
        """Print it above the bar."""
        self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self) -> None:
        """The bar and the front."""
        study = self.study
        doing = f"{study.name}: {self.doing}" if study else self.doing
        self._bar.update(self._task, description=doing)
        if study is None or not self.found:
            self._live.update(self._bar)
            return
        rows = table("#trial", *(f"#{title}" for title in titles(study)), title=f"front of {self.found}")
        for trial in self.front:
            rows.add_row(str(trial.number), *values(study, trial))
        self._live.update(Group(rows, self._bar))


def progress(*, live: bool) -> Lines | Display:
    """What to show a search with: live where stderr is a terminal."""
    console = Console(stderr=True)
    return Display(console) if live and console.is_terminal else Lines()


def shown(wanted: bool) -> Watch:
    """What to show a search with that was begun from Python."""
    if not wanted:
        return Silent()
    if in_notebook():
        from autoprune.api.notebook import Notebook

        return Notebook()
    return progress(live=True)


class Silent(Watch):
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def in_notebook() -> bool:
    """Whether a kernel runs this, whose cells show what is displayed."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")
