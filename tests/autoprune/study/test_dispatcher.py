"""Jobs and answers as text, whatever an executor does with them."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import ClassVar

import pytest
from pydantic import TypeAdapter

from autoprune.errors import StudyError
from autoprune.plugin import Executor
from autoprune.study import dispatcher as module
from autoprune.study.dispatcher import Dispatcher, worker_command
from autoprune.study.jobs import (
    Calibrate,
    Calibrated,
    Cut,
    Effect,
    Export,
    Exported,
    Join,
    Joined,
    Order,
    Probe,
    Probed,
    Remeasure,
    Remeasured,
    Trial,
    limited,
)
from autoprune.study.proposal import Proposal

CUTS = (Cut(scorer="l1", group="a", units=2), Cut(scorer="l1", group="b", units=3))
JOBS = [
    Trial(
        proposal=Proposal(number=3, origin="sampler", params={"ratio.a": 0.5, "strategy": "t"}, rivals=((1.0, 2.0),))
    ),
    Calibrate(),
    Probe(cuts=CUTS, samples=8, precision="bfloat16"),
    Remeasure(number=2, dense=False, choices={"lr": 0.1, "kind": "x"}),
    Join(evaluator="leaks", numbers=(2, 5), samples=100),
    Export(number=2, exporter="onnx-2", model="/a/b"),
]


class Runner:
    """Answers at once; counts who works at the same time."""

    inside: ClassVar[int] = 0
    most: ClassVar[int] = 0

    def __init__(self, problem, study):
        pass

    def probe(self, job):
        Runner.inside += 1
        Runner.most = max(Runner.most, Runner.inside)
        time.sleep(0.005)
        Runner.inside -= 1
        return Probed(effects=tuple(Effect(cut=cut, divergence=cut.units / 7) for cut in job.cuts))

    def calibrate(self):
        return Calibrated(precision="bfloat16")

    def remeasure(self, job):
        return Remeasured(number=job.number, metrics={})

    def join(self, job):
        return Joined(evaluator=job.evaluator, numbers=job.numbers, metrics={})

    def export(self, job):
        return Exported(number=job.number, exporter=job.exporter)


class Threads(Executor):
    """As a third party would write one: a pool of threads."""

    name = "threads"
    opened: ClassVar[list] = []

    def open(self, workplace):
        self.opened.append(ThreadWorkers(workplace))
        return self.opened[-1]


class ThreadWorkers:
    def __init__(self, workplace):
        self.workplace = workplace
        self.capacity = workplace.capacity
        self.pool = ThreadPoolExecutor(workplace.capacity)
        self.results = deque()
        self.arrived = threading.Semaphore(0)
        self.calls = []

    def submit(self, job):
        self.pool.submit(self.work, job)

    def work(self, job):
        self.results.append(self.workplace.perform(job))
        self.arrived.release()

    def next(self):
        self.arrived.acquire()
        return self.results.popleft()

    def cancel(self):
        self.calls.append("cancel")

    def close(self):
        self.calls.append("close")
        self.pool.shutdown()


@pytest.fixture
def problem(monkeypatch):
    monkeypatch.setattr(module, "Runner", Runner)
    search = SimpleNamespace(workers=3, trial_timeout=timedelta(seconds=90))
    return SimpleNamespace(spec=SimpleNamespace(search=search))


@pytest.fixture
def opened(problem, tmp_path):
    made = Dispatcher(Threads(), problem, tmp_path)
    yield made, Threads.opened[-1]
    made.close()


def test_executors_get_what_the_spec_asks_for(opened, tmp_path):
    _, workers = opened
    workplace = workers.workplace
    assert (workplace.folder, workplace.capacity, workplace.timeout_s) == (tmp_path, 3, 90.0)
    command = workplace.command(1, 4)
    assert command == worker_command(tmp_path, 1, 4)
    assert command[1:] == ("-m", "autoprune.study.worker", str(tmp_path), "1", "4")


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.kind)
def test_jobs_are_one_line_of_text_and_come_back_whole(job):
    text = Order(number=7, job=job).model_dump_json()
    assert "\n" not in text
    assert Order.model_validate_json(text) == Order(number=7, job=job)
    assert limited(text) == (job.kind == "trial")


def test_every_job_has_an_answer_where_its_worker_was_lost():
    lost = [job.failed(None, "it burned") for job in JOBS[1:]]
    assert lost == [
        Calibrated(precision="float32"),
        Probed(effects=tuple(Effect(cut=cut, reason="it burned") for cut in CUTS)),
        Remeasured(number=2, metrics={}, reason="it burned"),
        Joined(evaluator="leaks", numbers=(2, 5), metrics={}, reason="it burned"),
        Exported(number=2, exporter="onnx-2", reason="it burned"),
    ]
    for job, done in zip(JOBS[1:], lost, strict=True):
        assert TypeAdapter(job.answer).validate_json(done.model_dump_json()) == done


def test_each_answer_goes_to_whoever_asked_in_any_order(opened):
    made, _ = opened
    got = []
    probes = [Probe(cuts=(Cut(scorer="l1", group="g", units=n),), samples=1) for n in range(12)]
    for n, probe in enumerate(probes):
        made.submit(probe, lambda done, n=n: got.append((n, done.effects[0].cut.units, done.effects[0].divergence)))
    made.submit(Calibrate(), lambda done: got.append(done.precision))
    assert made.open == 13
    while made.open:
        before = len(got)
        hand_over = made.next()
        assert len(got) == before, "what is waited for and what is done with it are apart"
        hand_over()
    assert "bfloat16" in got
    got.remove("bfloat16")
    assert sorted(got) == [(n, n, n / 7) for n in range(12)]
    assert Runner.most == 1, "in one process, one at a time"


def test_capacity_is_asked_each_time(opened):
    made, workers = opened
    assert made.capacity == 3
    workers.capacity = 5
    assert made.capacity == 5
    workers.capacity = 0
    assert made.capacity == 1, "a search goes on as long as anybody may come"


def test_of_two_answers_the_first_counts(opened):
    made, workers = opened
    got = []
    made.submit(Calibrate(), got.append)
    workers.arrived.acquire()
    line = workers.results[0]
    other = json.loads(line) | {"done": {"precision": "float32"}}
    workers.results.append(json.dumps(other))
    workers.results.append(json.dumps(other | {"number": 99}))
    for _ in range(3):
        workers.arrived.release()
    made.next()()
    made.submit(Remeasure(number=5, dense=True), got.append)
    made.next()()
    assert got == [Calibrated(precision="bfloat16"), Remeasured(number=5, metrics={})]
    assert not made.open


@pytest.mark.parametrize(
    "line", ["", "nonsense", "[]", "3", '{"number": 0}', '{"number": 0, "done": {"precision": "x"}}']
)
def test_what_is_no_answer_is_told(opened, line):
    made, workers = opened
    made.submit(Calibrate(), lambda _: None)
    workers.arrived.acquire()
    workers.results[0] = line
    workers.arrived.release()
    with pytest.raises(StudyError, match="executor threads gave no answer, but "):
        made.next()


def test_in_the_end_the_rest_is_forgotten(problem, tmp_path):
    made = Dispatcher(Threads(), problem, tmp_path)
    made.close()
    assert Threads.opened[-1].calls == ["cancel", "close"]
