"""The local executor, with jobs that are words: to an executor they are lines of text."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import pytest

from autoprune.errors import StudyError
from autoprune.plugin import Workplace
from autoprune_executors.local import Local

WORKER = """
import json, os, sys, time
index, threads, fault = sys.argv[1:4]
if fault == "dies":
    sys.exit(3)
print(json.dumps("no such model" if fault == "complains" else ""), flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == "die":
        os.kill(os.getpid(), 9)
    if word == "leave":
        sys.exit(7)
    if word.endswith("hang"):
        time.sleep(60)
    print(f"{word} by {index} {os.getpid()} {threads} {os.environ['OMP_NUM_THREADS']}", flush=True)
    if word == "last":
        sys.exit(0)
"""


@pytest.fixture
def workers(tmp_path):
    """Workers that are closed in the end."""
    opened = []

    def open_(*, capacity=2, timeout_s=None, fault=""):
        workplace = Workplace(
            folder=tmp_path,
            capacity=capacity,
            timeout_s=timeout_s,
            perform=lambda job: f"{job} here {os.getpid()}",
            failed=lambda job, reason: f"{job} failed: {reason}",
            limited=lambda job: not job.startswith("free"),
            command=lambda index, threads: (sys.executable, "-c", WORKER, str(index), str(threads), fault),
        )
        opened.append(Local().open(workplace))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


def run(workers, *jobs):
    for job in jobs:
        workers.submit(job)
    return [workers.next() for _ in jobs]


def state(pid):
    """As Linux tells it: Z for a process that ended and that nobody has asked about; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def test_one_worker_is_this_process_which_works_when_it_is_waited_for(workers):
    one = workers(capacity=1)
    assert one.capacity == 1
    done = run(one, "a", "b")
    assert done == [f"a here {os.getpid()}", f"b here {os.getpid()}"]
    one.submit("c")
    one.cancel()
    one.submit("d")
    assert one.next() == f"d here {os.getpid()}"


def test_several_workers_are_processes_that_share_jobs_and_threads(workers):
    import torch

    two = workers()
    assert two.capacity == 2
    done = [line.split() for line in run(two, *"abcdefgh")]
    assert sorted(words[0] for words in done) == list("abcdefgh")
    threads = str(max(1, torch.get_num_threads() // 2))
    assert {(words[4], words[5]) for words in done} == {(threads, threads)}
    assert str(os.getpid()) not in {words[3] for words in done}


@pytest.mark.parametrize(("job", "fate"), [("die", "Killed (signal 9)"), ("leave", "exit code 7")])
def test_one_that_dies_costs_its_job_and_is_replaced(workers, tmp_path, job, fate):
    two = workers()
    done = sorted(run(two, "a", job, "b", "c"))
    (lost,) = [line for line in done if "failed" in line]
    assert re.fullmatch(
        re.escape(f"{job} failed: the worker process ended: {fate}; see {tmp_path}/workers/") + r"\d\.log", lost
    )
    assert [line.split()[0] for line in done if line != lost] == ["a", "b", "c"]
    assert len(run(two, *"defg")) == 4


def test_one_that_dies_between_jobs_costs_nothing(workers):
    two = workers()
    pids = {line.split()[3] for line in run(two, "last", "last", "last")}
    while any(state(pid) not in "Z" for pid in pids):
        time.sleep(0.01)
    assert sorted(line.split()[0] for line in run(two, "a", "b")) == ["a", "b"]


@pytest.mark.slow
def test_one_that_overruns_is_replaced_unless_its_job_is_not_limited(workers):
    two = workers(timeout_s=0.5)
    started = time.monotonic()
    assert run(two, "hang") == ["hang failed: took longer than search.trial_timeout, 0.5 s"]
    assert time.monotonic() - started >= 0.5
    assert run(two, "a")[0].startswith("a by")
    two.submit("free hang")
    two.submit("hang")
    assert two.next() == "hang failed: took longer than search.trial_timeout, 0.5 s"
    two.submit("b")
    assert two.next().startswith("b by"), "the other worker still is at its job"


def test_what_has_not_begun_is_forgotten_and_the_rest_is_killed(workers):
    two = workers()
    pids = {line.split()[3] for line in run(two, *"abcdefgh")}
    for job in ("hang", "hang", "a", "b"):
        two.submit(job)
    two.cancel()
    two.close()
    assert not any(state(pid) for pid in pids)


def test_a_worker_that_cannot_load_the_study_ends_it(workers, tmp_path):
    complaining = workers(fault="complains")
    complaining.submit("a")
    with pytest.raises(StudyError, match=r"cannot load the problem: no such model"):
        complaining.next()
    dying = workers(fault="dies")
    dying.submit("a")
    with pytest.raises(StudyError, match=r"ended while it loaded the problem: exit code 3; see .*\.log"):
        dying.next()
