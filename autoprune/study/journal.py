"""Optuna's journal file, for one writer that waits for the disk once a trial."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend


class Journal(BaseJournalBackend):
    """The same lines as Optuna's `JournalFileBackend` writes, which other processes read with that.

    Optuna's locks the file and waits for the disk at every line, and a trial has a line per parameter: with 50 groups
    that is most of what a trial costs. What a process has written outlives it in any case, only a crash of the machine
    takes what did not reach the disk; so it is enough to `sync` when a trial ends. Every append is one write at the
    end of the file.
    """

    def __init__(self, path: Path) -> None:
        """Open it; half a line that a writer killed while writing left at its end would spoil the next one and goes."""
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        self._close = weakref.finalize(self, os.close, self._file)
        self._number = self._offset = 0
        """Of the line that is read next."""
        text = self._rest(0)
        if not text.endswith(b"\n"):
            os.ftruncate(self._file, text.rfind(b"\n") + 1)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines."""
        text = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        while text:
            text = text[os.write(self._file, text) :]

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Read on; Optuna's storage asks for every line once."""
        if log_number_from < self._number:
            self._number = self._offset = 0
        for line in self._rest(self._offset).splitlines(keepends=True):
            if not line.endswith(b"\n"):  # somebody else is about to end it
                return
            self._number += 1
            self._offset += len(line)
            if self._number > log_number_from:
                yield json.loads(line)

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        self._close()
        self._file = -1

    def _rest(self, offset: int) -> bytes:
        os.lseek(self._file, offset, os.SEEK_SET)
        parts = []
        while part := os.read(self._file, 1 << 20):
            parts.append(part)
        return b"".join(parts)
