"""Where trials run: in this process, or in worker processes that may die or hang without harm to the study."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Protocol, cast

import torch
from pydantic import TypeAdapter

from autoprune.errors import StudyError
from autoprune.study.jobs import Calibrate, Calibrated, Done, Effect, Job, Probe, Probed, Remeasured
from autoprune.study.problem import Problem
from autoprune.study.space import Proposal
from autoprune.study.trial import Record, Runner

JOB: TypeAdapter[Job] = TypeAdapter(Job)
DONE: TypeAdapter[Done] = TypeAdapter(Done)


class Executor(Protocol):
    """Takes jobs and gives results in the order of finishing."""

    capacity: int
    """Jobs that run at the same time."""

    def submit(self, job: Job) -> None:
        """Take a job."""

    def next(self) -> Done:
        """Wait for the result of any job that was submitted."""

    def close(self) -> None:
        """End, and whatever still runs with it."""


def executor_for(problem: Problem, study: Path) -> Executor:
    """What the spec asks for: this process, or several."""
    search = problem.spec.search
    if search.workers == 1:
        return Inline(problem, study)
    timeout = search.trial_timeout
    return Processes(problem, study, timeout_s=None if timeout is None else timeout.total_seconds())


def perform(runner: Runner, job: Job) -> Done:
    """Do a job."""
    if isinstance(job, Proposal):
        return runner.run(job)
    if isinstance(job, Calibrate):
        return runner.calibrate()
    return runner.probe(job) if isinstance(job, Probe) else runner.remeasure(job)


class Inline:
    """Runs jobs in this process, when they are waited for."""

    capacity = 1

    def __init__(self, problem: Problem, study: Path) -> None:
        self._runner = Runner(problem, study)
        self._jobs: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        """Take a job."""
        self._jobs.append(job)

    def next(self) -> Done:
        """Run the oldest job."""
        return perform(self._runner, self._jobs.popleft())

    def close(self) -> None:
        """Nothing to end."""


class Processes:
    """Runs jobs in processes that load the problem once each; one that dies or overruns is replaced."""

    def __init__(self, problem: Problem, study: Path, *, timeout_s: float | None) -> None:
        self.capacity = problem.spec.search.workers
        self._problem = problem
        self._study = study
        self._timeout_s = timeout_s
        self._jobs: deque[Job] = deque()
        self._messages: queue.SimpleQueue[tuple[_Worker, str]] = queue.SimpleQueue()
        self._workers: list[_Worker] = []

    def submit(self, job: Job) -> None:
        """Take a job; the first one starts the workers."""
        self._jobs.append(job)
        while len(self._workers) < self.capacity:
            self._workers.append(self._worker(len(self._workers)))
        self._assign()

    def next(self) -> Done:
        """Wait for a result, a worker's death or a time-out.

        Raises:
            StudyError: A worker cannot load the problem.
        """
        while True:
            try:
                worker, line = self._messages.get(timeout=self._patience())
            except queue.Empty:
                overdue = min(self._limited(), key=lambda worker: worker.since)
                return self._replaced(overdue, f"took longer than search.trial_timeout, {self._timeout_s:g} s")
            if worker not in self._workers:  # a last word of one that was replaced
                continue
            if not line:
                fate = worker.fate()
                if not worker.ready:
                    raise StudyError(f"a worker process ended while it loaded the problem: {fate}; see {worker.log}")
                if worker.job is None:
                    self._restart(worker)
                    continue
                return self._replaced(worker, f"the worker process ended: {fate}; see {worker.log}")
            if not worker.ready:
                worker.get_ready(line)
                self._assign()
                continue
            worker.job = None
            self._assign()
            return DONE.validate_json(line)

    def close(self) -> None:
        """Kill the workers."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def _assign(self) -> None:
        for worker in self._workers:
            if self._jobs and worker.ready and worker.job is None:
                worker.begin(self._jobs.popleft(), self._problem)

    def _patience(self) -> float | None:
        """Seconds until the first trial is overdue."""
        limited = self._limited()
        if self._timeout_s is None or not limited:
            return None
        return max(0.0, min(worker.since for worker in limited) + self._timeout_s - time.monotonic())

    def _limited(self) -> list[_Worker]:
        """Workers at a trial; what the test split takes is not limited."""
        return [worker for worker in self._workers if isinstance(worker.job, Proposal)]

    def _worker(self, index: int) -> _Worker:
        threads = max(1, torch.get_num_threads() // self.capacity)
        return _Worker(index, study=self._study, threads=threads, messages=self._messages)

    def _restart(self, worker: _Worker) -> None:
        worker.kill()
        self._workers[self._workers.index(worker)] = self._worker(worker.index)

    def _replaced(self, worker: _Worker, reason: str) -> Done:
        self._restart(worker)
        return worker.failed(reason)


class _Worker:
    """One process, and the job that it works on."""

    def __init__(
        self, index: int, *, study: Path, threads: int, messages: queue.SimpleQueue[tuple[_Worker, str]]
    ) -> None:
        self.index = index
        self.log = study / "workers" / f"{index}.log"
        self.ready = False
        self.job: Job | None = None
        self.failed: Callable[[str], Done]
        """Gives the job's result, if all there is to tell is a reason."""
        self.since = 0.0
        """When it began the job, by the monotonic clock."""
        self.log.parent.mkdir(exist_ok=True)
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "autoprune.study.worker", str(study), str(index), str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)},
                start_new_session=True,  # Ctrl-C is the coordinator's to handle
            )
        self._reader = threading.Thread(target=self._read, args=(messages,), daemon=True)
        self._reader.start()

    def get_ready(self, line: str) -> None:
        """Take the first message: what is wrong, or nothing.

        Raises:
            StudyError: The process cannot load the problem.
        """
        if error := json.loads(line):
            raise StudyError(f"a worker process, which has installed plugins only, cannot load the problem: {error}")
        self.ready = True

    def begin(self, job: Job, problem: Problem) -> None:
        """Hand it a job. If it is dead, that is told by its last message."""
        self.job, self.since = job, time.monotonic()
        if isinstance(job, Proposal):
            self.failed = partial(Record(problem, job).result, "failed")
        elif isinstance(job, Probe):
            self.failed = partial(_probed, job)
        elif isinstance(job, Calibrate):
            self.failed = _calibrated
        else:
            self.failed = partial(_remeasured, job.number)
        with suppress(BrokenPipeError):
            pipe = cast("IO[str]", self._process.stdin)
            pipe.write(job.model_dump_json() + "\n")
            pipe.flush()

    def fate(self) -> str:
        """How it ended."""
        code = self._process.wait()
        return f"{signal.strsignal(-code)} (signal {-code})" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """End it and the processes that it began, at once."""
        with suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                cast("IO[str]", pipe).close()

    def _read(self, messages: queue.SimpleQueue[tuple[_Worker, str]]) -> None:
        for line in cast("IO[str]", self._process.stdout):
            messages.put((self, line))
        messages.put((self, ""))


def _calibrated(_: str) -> Calibrated:
    return Calibrated(precision="float32")


def _probed(job: Probe, reason: str) -> Probed:
    return Probed(effects=tuple(Effect(cut=cut, reason=reason) for cut in job.cuts))


def _remeasured(number: int, reason: str) -> Remeasured:
    return Remeasured(number=number, metrics={}, reason=reason)
