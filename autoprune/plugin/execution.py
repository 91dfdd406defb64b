"""Where jobs run. To an executor a job is a line of text, and so is its result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Workplace:
    """What the host hands to an executor."""

    folder: Path
    """The study's. Workers on other machines must see it."""
    capacity: int
    """Jobs to run side by side, as the spec asks (``search.workers``)."""
    timeout_s: float | None
    """How long a job may take that `limited` says is limited; None for as long as it likes."""
    perform: Callable[[str], str]
    """Does a job in this process, one at a time: another thread waits."""
    failed: Callable[[str, str], str]
    """A job and the reason for which it was lost, to the result that tells so."""
    limited: Callable[[str], bool]
    """Whether the time limit is for this job: trials, not what measures the front again."""
    command: Callable[[int, int], Sequence[str]]
    """Number of a worker and its threads, to the command line of a process that loads the study once, says so in its
    first line (a JSON text: what kept it from loading, or nothing), and then does the jobs that it reads, one a line,
    and writes their results."""


class Workers(Protocol):
    """Takes jobs and gives results in the order of finishing. The first result of a job counts; jobs are idempotent."""

    @property
    def capacity(self) -> int:
        """Jobs that run at the same time; it may change."""

    def submit(self, job: str) -> None:
        """Take a job."""

    def next(self) -> str:
        """Wait for the result of any job that was submitted; that of `Workplace.failed` if its worker is lost.

        Raises:
            StudyError: No worker can work.
        """

    def cancel(self) -> None:
        """Forget the jobs that have not begun."""

    def close(self) -> None:
        """End, and whatever still runs with it."""
