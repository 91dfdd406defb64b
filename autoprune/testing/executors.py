"""Kit for executors. Workers are stand-ins that do nothing in no time, but for one test with those of a search."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import pytest
import torch

from autoprune.errors import StudyError
from autoprune.host.binding import load_spec
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Executor, Workers, Workplace
from autoprune.study import resolve
from autoprune.study.dispatcher import Dispatcher
from autoprune.study.folder import StudyFolder
from autoprune.study.jobs import Cut, Probe, Probed
from autoprune.testing import _stand_in
from autoprune.testing.components import ComponentConformance
from autoprune.testing.toys import toy_data

T = TypeVar("T")

_QUIET_S = 0.2
"""A worker that lives shows it more often than that."""


class ExecutorConformance(ComponentConformance):
    """Tests of an executor."""

    contract = Executor
    workers: ClassVar[int] = 2
    """Jobs to run side by side, as a spec's ``search.workers`` asks."""
    patience_s: ClassVar[float] = 60.0
    """How long to wait for a result; more where workers are slow to start."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """The study's folder; override it where workers are elsewhere and see only some other."""
        return tmp_path

    @pytest.fixture
    def opened(self, component: Executor, folder: Path) -> Iterator[_Opened]:
        """The executor at work, closed in the end."""
        opened = _Opened(component, folder, capacity=self.workers, patience_s=self.patience_s)
        yield opened
        opened.close()

    def test_has_room_for_a_job(self, opened: _Opened) -> None:
        """Its capacity is a whole number from 1, before a job and after."""
        for _ in range(2):
            capacity = opened.workers.capacity
            assert isinstance(capacity, int), f"its capacity is {capacity!r}"
            assert capacity >= 1, f"its capacity is {capacity}"
            opened.answers("one")

    def test_answers_every_job(self, opened: _Opened) -> None:
        """Each of many has its result, in any order, letter for letter."""
        opened.answers(*(f'"{n}": né à Zürich \\ {{}}' for n in range(2 * self.workers + 3)))
        opened.answers("and again")

    def test_forgets_what_has_not_begun(self, opened: _Opened) -> None:
        """When it is told to, and goes on with what comes after that."""
        busy = [opened.submit("busy", do="wait") for _ in range(opened.workers.capacity)]
        forgotten = [opened.submit("forgotten") for _ in range(3)]
        opened.within(opened.workers.cancel, "cancel()")
        opened.let_go()
        last = opened.submit("last")
        answered: set[int] = set()
        while last not in answered:
            assert len(answered) <= len(busy) + len(forgotten), "results of jobs that were answered before"
            answered.add(opened.next()["number"])
        assert not answered & set(forgotten), "jobs were done that had not begun when it was told to forget them"

    def test_a_lost_worker_costs_its_job_alone(self, opened: _Opened) -> None:
        """Its result is that of ``Workplace.failed``; what comes next has one, too, or a `StudyError` says why not."""
        opened.answers("one")
        number = opened.submit("lost", do="die")
        answer = opened.next()
        if opened.performed(number):
            pytest.skip("it does jobs in this process")
        assert answer["number"] == number, f"job {number} is lost; there is a result of {answer['number']}"
        assert answer.get("failed"), f"its worker died and gave no result; told is {answer}"
        number = opened.submit("next")
        with suppress(StudyError):
            assert opened.next()["number"] == number

    def test_a_worker_that_cannot_load_ends_it(self, component: Executor, folder: Path) -> None:
        """With what the worker says, as soon as it is known."""
        (folder / _stand_in.CANNOT_LOAD).write_text("there is no such model", encoding="utf-8")
        told, opened = "", None
        try:
            opened = _Opened(component, folder, capacity=self.workers, patience_s=self.patience_s)
            number = opened.submit("one")
            opened.next()
            if opened.performed(number):
                pytest.skip("it does jobs in this process")
        except StudyError as error:
            told = str(error)
        finally:
            if opened is not None:
                opened.close()
        assert "there is no such model" in told, f"it has to raise a StudyError with the worker's words, not {told!r}"

    def test_ends_with_all_that_runs(self, opened: _Opened, folder: Path) -> None:
        """`close` waits for nothing, and no worker is left, busy or not."""
        opened.answers("one")
        for _ in range(opened.workers.capacity):
            opened.submit("busy", do="wait")
        opened.close()
        end = time.monotonic() + 10 * _QUIET_S
        while left := _alive(folder):
            assert time.monotonic() < end, f"workers are left behind: {', '.join(left)}"

    def test_does_the_jobs_of_a_search(self, component: Executor, folder: Path) -> None:
        """With the workers of a search, on the toys: what cuts do comes back as the search understands it."""
        dispatcher = _real(component, folder, workers=self.workers)
        cuts = [Cut(scorer="l1", group="top", units=units) for units in (2, 9)]
        probed: list[Probed] = []
        try:
            for cut in cuts:
                dispatcher.submit(Probe(cuts=(cut,), samples=16), probed.append)
            while dispatcher.open:
                _within(10 * self.patience_s, dispatcher.next, "next()")()
        finally:
            _within(self.patience_s, dispatcher.close, "close()")
        effects = {effect.cut.units: effect for each in probed for effect in each.effects}
        assert [effect.reason for effect in effects.values()] == [None, None]
        assert 0 < effects[2].divergence < effects[9].divergence


class _Opened:
    """An executor with stand-ins for workers: jobs in, results out, and neither for ever."""

    def __init__(self, executor: Executor, folder: Path, *, capacity: int, patience_s: float) -> None:
        self._folder = folder
        self._patience_s = patience_s
        self._jobs: dict[int, str] = {}
        self._performed: set[int] = set()
        self._turn = threading.Lock()
        self._closed = False
        workplace = Workplace(
            folder=folder,
            capacity=capacity,
            timeout_s=None,
            perform=self._perform,
            failed=lambda job, reason: json.dumps({"number": json.loads(job)["number"], "failed": reason}),
            limited=lambda job: json.loads(job)["do"] != "wait",
            command=lambda number, threads: (
                sys.executable,
                _stand_in.__file__,
                str(folder),
                str(number),
                str(threads),
            ),
        )
        self.workers: Workers = self.within(lambda: executor.open(workplace), "open()")

    def submit(self, text: str, *, do: str = "answer") -> int:
        """Have a job done; its number."""
        number = len(self._jobs)
        self._jobs[number] = text
        job = json.dumps({"number": number, "do": do, "text": text}, ensure_ascii=False)
        self.within(lambda: self.workers.submit(job), "submit()")
        return number

    def next(self) -> dict[str, Any]:
        """The next result."""
        line = self.within(self.workers.next, "next()")
        try:
            answer = json.loads(line)
            number = answer["number"]
        except (TypeError, ValueError, KeyError):
            pytest.fail(f"no worker gave the result {line!r}")
        assert number in self._jobs, f"there is a result of job {number}, which nobody submitted"
        assert "failed" in answer or answer["done"] == self._jobs[number], (
            f"job {number} gave {answer['done']!r}, not {self._jobs[number]!r}"
        )
        return dict(answer)

    def answers(self, *texts: str) -> None:
        """Assert that jobs are all done; a second result of one is one too many, but no harm."""
        missing = {self.submit(text) for text in texts}
        for _ in range(2 * len(texts)):
            answer = self.next()
            assert "failed" not in answer, f"job {answer['number']} failed: {answer['failed']}"
            missing.discard(answer["number"])
            if not missing:
                return
        pytest.fail(f"no result of {len(missing)} of {len(texts)} jobs")

    def performed(self, number: int) -> bool:
        """Whether a job was done in this process."""
        return number in self._performed

    def let_go(self) -> None:
        """Let jobs that wait finish."""
        (self._folder / _stand_in.GATE).touch()

    def close(self) -> None:
        """End, once."""
        if not self._closed:
            self._closed = True
            self.within(self.workers.close, "close()")

    def within(self, call: Callable[[], T], what: str) -> T:
        """What a call returns, which must not take for ever."""
        return _within(self._patience_s, call, what)

    def _perform(self, job: str) -> str:
        with self._turn:
            self._performed.add(json.loads(job)["number"])
            return _stand_in.perform(job, self._folder, alone=False)


def _within(seconds: float, call: Callable[[], T], what: str) -> T:
    """What a call returns or raises.

    It runs in another thread, for what waits for ever cannot be interrupted.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"{what} did not come back within {seconds:g} s"
    if errors:
        raise errors[0]
    return results[0]


def _alive(folder: Path) -> list[str]:
    """Names of the files by which workers show that they live and that grew just now."""
    before = {file: file.stat().st_size for file in folder.glob("alive-*")}
    time.sleep(_QUIET_S)
    return [file.name for file, size in before.items() if file.stat().st_size > size]


def _real(executor: Executor, folder: Path, *, workers: int) -> Dispatcher:
    """The executor in a search of the toys. The spec does not name it, for it may not be installed."""
    inputs, targets = toy_data().train.fetch(torch.arange(len(toy_data().train)))
    np.savez(folder / "toys.npz", x=inputs.first.numpy(), y=targets.numpy())
    (folder / "toys.yaml").write_text(_SPEC.format(workers=workers), encoding="utf-8")
    host = PluginHost()
    spec = load_spec(folder / "toys.yaml", host=host)
    study = StudyFolder.create(spec, host)
    return Dispatcher(executor, resolve(study.spec(host), host), study.path)


_SPEC = """\
name: toys
model: {{use: factory, target: "autoprune.testing:toy_network"}}
data: {{use: npz, path: toys.npz}}
scorer: {{use: l1}}
evaluators: [{{use: accuracy}}, {{use: params}}]
objectives: {{accuracy: maximize, params: minimize}}
device: cpu
search: {{workers: {workers}}}
tracking: {{enabled: false}}
output: study
"""
