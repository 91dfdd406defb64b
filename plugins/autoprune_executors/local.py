"""Runs jobs on this machine: in this process, or in worker processes beside it."""

from __future__ import annotations

from collections import deque

from autoprune.plugin import Executor, Workers, Workplace


class Local(Executor):
    """This process where ``search.workers`` is 1, else as many worker processes.

    One that dies or takes longer at a trial than ``search.trial_timeout`` costs that trial and is replaced.
    """

    name = "local"

    def open(self, workplace: Workplace) -> Workers:
        """Get ready; worker processes start with the first job."""
        if workplace.capacity == 1:
            return Inline(workplace)
        from autoprune_executors._processes import Processes

        return Processes(workplace)


class Inline:
    """Does jobs in this process, when they are waited for."""

    capacity = 1

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._jobs: deque[str] = deque()

    def submit(self, job: str) -> None:
        """Take a job."""
        self._jobs.append(job)

    def next(self) -> str:
        """Do the oldest job."""
        return self._workplace.perform(self._jobs.popleft())

    def cancel(self) -> None:
        """Forget the jobs."""
        self._jobs.clear()

    def close(self) -> None:
        """Nothing to end."""
