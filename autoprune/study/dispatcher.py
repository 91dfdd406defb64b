"""Between the coordinator and an executor: jobs and answers on one side, lines of text on the other."""

from __future__ import annotations

import itertools
import json
import sys
import threading
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from autoprune.errors import StudyError
from autoprune.plugin import Executor, Workplace
from autoprune.study.jobs import Job, Order, failed, limited, perform
from autoprune.study.problem import Problem
from autoprune.study.trial import Runner

D = TypeVar("D", bound=BaseModel)


class Dispatcher:
    """Hands jobs to an executor's workers, and answers to whoever asked for them."""

    def __init__(self, executor: Executor, problem: Problem, study: Path) -> None:
        """Open the executor.

        Args:
            executor: Where jobs run.
            problem: What is searched.
            study: Its folder.
        """
        search = problem.spec.search
        here = _Here(problem, study)
        self._executor = executor
        self._workers = executor.open(
            Workplace(
                folder=study,
                capacity=search.workers,
                timeout_s=None if search.trial_timeout is None else search.trial_timeout.total_seconds(),
                perform=here.perform,
                failed=lambda text, reason: failed(text, problem, reason),
                limited=limited,
                command=partial(worker_command, study),
            )
        )
        self._numbers = itertools.count()
        self._open: dict[int, tuple[Job[Any], Callable[[Any], None]]] = {}

    @property
    def capacity(self) -> int:
        """Jobs that run at the same time, as of now."""
        return max(1, self._workers.capacity)

    @property
    def open(self) -> int:
        """Jobs that have no answer yet."""
        return len(self._open)

    def submit(self, job: Job[D], then: Callable[[D], None]) -> None:
        """Have a job done.

        Args:
            job: What is to be done.
            then: Takes the answer.
        """
        number = next(self._numbers)
        self._open[number] = job, then
        self._workers.submit(Order.model_validate({"number": number, "job": job}).model_dump_json())

    def next(self) -> Callable[[], None]:
        """Wait for any answer.

        Returns:
            Hands it to whoever asked.

        Raises:
            StudyError: No worker can work, or what came is no answer.
        """
        while True:
            line = self._workers.next()
            try:
                answer = json.loads(line)
                # An executor that tries a job again may give two answers; the first one counts.
                if answer["number"] in self._open:
                    job, then = self._open[answer["number"]]
                    done = job.answer.model_validate(answer["done"])
                    del self._open[answer["number"]]
                    return partial(then, done)
            except (ValueError, TypeError, KeyError, ValidationError) as error:
                raise StudyError(f"executor {self._executor.name} gave no answer, but {line[:200]!r}") from error

    def close(self) -> None:
        """End, and whatever still runs with it."""
        self._workers.cancel()
        self._workers.close()


class _Here:
    """Does jobs in this process, one at a time: random generators and the dense network are the process's."""

    def __init__(self, problem: Problem, study: Path) -> None:
        self._problem = problem
        self._study = study
        self._turn = threading.Lock()

    def perform(self, text: str) -> str:
        with self._turn:
            return perform(text, self._runner)

    @cached_property
    def _runner(self) -> Runner:
        return Runner(self._problem, self._study)


def worker_command(study: Path, index: int, threads: int) -> tuple[str, ...]:
    """The command line of a worker process, see `autoprune.study.worker`."""
    return sys.executable, "-m", "autoprune.study.worker", str(study), str(index), str(threads)
