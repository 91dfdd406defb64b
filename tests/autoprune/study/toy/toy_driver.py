"""Runs searches of the toy in processes of their own, which tests then kill."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable
from pathlib import Path

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
