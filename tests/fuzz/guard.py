"""Watches what opening a file does: how long, how much memory, what it writes, and whether it runs anything."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autoprune import AutopruneError

from .mutation import MARKER

SECONDS = 5
"""What one file may compute at most, in a run of its own."""
_WAIT = 60
_WRITES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
_RUNS = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "pty.spawn"}


class Watch:
    """One for the process: Python has no way to take an audit hook away again."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in _RUNS:
            self.seen.append(f"{event} {args!r:.200}")
        elif event in _WRITES or (event == "open" and _writing(args)):
            path = os.fsdecode(args[0]) if isinstance(args[0], str | bytes | os.PathLike) else ""
            if path and not Path(path).resolve().is_relative_to(self.folder) and not path.startswith("/dev/null"):
                self.seen.append(f"{event} {path}")


_watch: list[Watch] = []


def _writing(args: tuple[Any, ...]) -> bool:
    _, mode, flags = args
    return bool(set(mode or "") & set("wax+")) or bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR))


@contextmanager
def guarded(folder: Path, *, seconds: float) -> Iterator[None]:
    """Fail where something is written outside of the folder, run, computes longer than that, or waits for a minute."""
    watch = _watch[0] if _watch else Watch()
    _watch[:] = [watch]
    watch.seen, watch.folder = [], folder.resolve()

    def late(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} s of computing, or {_WAIT} s in all")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, seconds), signal.SIGALRM: (signal.ITIMER_REAL, max(seconds, _WAIT))}
    before = {number: signal.signal(number, late) for number in timers}
    for timer, length in timers.values():
        signal.setitimer(timer, length)
    try:
        yield
    finally:
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        watch.folder = None
    assert not watch.seen, watch.seen
    assert not (folder / MARKER).exists(), "code ran"
    assert not Path(MARKER).exists(), "code ran"


def opened(act: Callable[[], object], folder: Path, *, seconds: float = 60) -> str:
    """Open a file.

    Returns:
        What it was refused by; "" if it was opened.
    """
    with guarded(folder, seconds=seconds), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that read it
        try:
            act()
        except AutopruneError as error:
            said = str(error)
        else:
            return ""
    assert said
    assert "\x1b" not in said
    return said


class Peak:
    """Time and memory of the worst file so far."""

    def __init__(self) -> None:
        self.memory_mb = self._now
        self.seconds, self.number = 0.0, 0

    @contextmanager
    def timed(self, number: int) -> Iterator[None]:
        """Time the file of that number."""
        started = time.process_time()
        try:
            yield
        finally:
            self.seconds, self.number = max((self.seconds, self.number), (time.process_time() - started, number))

    @property
    def grown_mb(self) -> int:
        """By how much the process grew."""
        return self._now - self.memory_mb

    @property
    def _now(self) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
