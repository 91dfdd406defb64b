"""Ctrl-C and SIGTERM, held back while the study is being written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Turns both signals into `KeyboardInterrupt`: at once where that is allowed, else at the next place where it is.

    A second signal is not held back.
    """

    def __init__(self) -> None:
        self._allowed = False
        self._asked = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Take the signals over; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Whatever runs inside may be interrupted anywhere."""
        self._allowed = True
        try:
            if self._asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._allowed = False

    def _handle(self, _: int, __: FrameType | None) -> None:
        again, self._asked = self._asked, True
        if self._allowed or again:
            raise KeyboardInterrupt
