"""Runs searches of the toy in processes of their own, which tests then kill."""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autoprune.errors import AutopruneError
from autoprune.host.plugins import PluginHost
from autoprune.study import resume, search


def toy_host() -> PluginHost:
    known = ("toy", "tasks", "executors")
    return PluginHost([e for e in importlib.metadata.entry_points(group="autoprune") if e.name in known])


def run_search(spec: Path) -> None:
    _ended(lambda: search(spec, host=toy_host()))


def run_resume(study: Path) -> None:
    _ended(lambda: resume(study, host=toy_host()))


def run_killed(spec: Path, owner: str, step: str, call: int, before: bool) -> None:
    """A search that is killed as it takes a step for so many times, before the step or right behind it."""
    module, _, name = owner.partition(":")
    holder = importlib.import_module(module)
    holder = getattr(holder, name) if name else holder
    whole, calls = getattr(holder, step), itertools.count(1)

    def taken(*given: Any, **named: Any) -> None:
        last = next(calls) == call
        if last and before:
            os.kill(os.getpid(), signal.SIGKILL)
        whole(*given, **named)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(holder, step, taken)
    run_search(spec)


def _ended(session: Callable) -> None:
    """Exit codes tell the test how the session ended."""
    try:
        interrupted = session().outcome.interrupted
    except AutopruneError as error:
        raise SystemExit(error.exit_code) from error
    raise SystemExit(130 if interrupted else 0)


def wait_for(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to it"
        time.sleep(0.005)
