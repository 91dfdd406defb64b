"""Worker processes, which may die or hang without harm to the study."""

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
from contextlib import suppress
from typing import IO, cast

from autoprune.errors import StudyError
from autoprune.plugin import Workplace


class Processes:
    """Has jobs done in processes that load the study once each; one that dies or overruns is replaced."""

    def __init__(self, workplace: Workplace) -> None:
        import torch

        self.capacity = workplace.capacity
        self._workplace = workplace
        self._threads = max(1, torch.get_num_threads() // self.capacity)
        self._jobs: deque[str] = deque()
        self._messages: queue.SimpleQueue[tuple[_Worker, str]] = queue.SimpleQueue()
        self._workers: list[_Worker] = []

    def submit(self, job: str) -> None:
        """Take a job; the first one starts the workers."""
        self._jobs.append(job)
        while len(self._workers) < self.capacity:
            self._workers.append(self._worker(len(self._workers)))
        self._assign()

    def next(self) -> str:
        """Wait for a result, a worker's death or a time-out.

        Raises:
            StudyError: A worker cannot load the study.
        """
        while True:
            try:
                worker, line = self._messages.get(timeout=self._patience())
            except queue.Empty:
                overdue = min(self._limited(), key=lambda worker: worker.since)
                limit = self._workplace.timeout_s
                return self._replaced(overdue, f"took longer than search.trial_timeout, {limit:g} s")
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
            return line

    def cancel(self) -> None:
        """Forget the jobs that no worker has begun."""
        self._jobs.clear()

    def close(self) -> None:
        """Kill the workers."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def _assign(self) -> None:
        for worker in self._workers:
            if self._jobs and worker.idle:
                worker.begin(self._jobs.popleft())

    def _patience(self) -> float | None:
        """Seconds until the first limited job is overdue."""
        limited = self._limited()
        if self._workplace.timeout_s is None or not limited:
            return None
        return max(0.0, min(worker.since for worker in limited) + self._workplace.timeout_s - time.monotonic())

    def _limited(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.job and self._workplace.limited(worker.job)]

    def _worker(self, index: int) -> _Worker:
        return _Worker(index, workplace=self._workplace, threads=self._threads, messages=self._messages)

    def _restart(self, worker: _Worker) -> None:
        worker.kill()
        self._workers[self._workers.index(worker)] = self._worker(worker.index)

    def _replaced(self, worker: _Worker, reason: str) -> str:
        self._restart(worker)
        return self._workplace.failed(cast("str", worker.job), reason)


class _Worker:
    """One process, and the job that it works on."""

    def __init__(
        self, index: int, *, workplace: Workplace, threads: int, messages: queue.SimpleQueue[tuple[_Worker, str]]
    ) -> None:
        self.index = index
        self.log = workplace.folder / "workers" / f"{index}.log"
        self.ready = False
        self.job: str | None = None
        self.since = 0.0
        """When it began the job, by the monotonic clock."""
        self.log.parent.mkdir(exist_ok=True)
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                workplace.command(index, threads),
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

    @property
    def idle(self) -> bool:
        """Whether it can take a job. One that died meanwhile will say so, and is replaced then."""
        return self.ready and self.job is None and self._process.poll() is None

    def get_ready(self, line: str) -> None:
        """Take the first message: what is wrong, or nothing.

        Raises:
            StudyError: The process cannot load the study.
        """
        if error := json.loads(line):
            raise StudyError(
                "a worker process, which has installed plugins and the spec's own files only, cannot load the problem:"
                f" {error}"
            )
        self.ready = True

    def begin(self, job: str) -> None:
        """Hand it a job. If it is dead, that is told by its last message."""
        self.job, self.since = job, time.monotonic()
        with suppress(BrokenPipeError):
            pipe = cast("IO[str]", self._process.stdin)
            pipe.write(job + "\n")
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
