"""Stands in for `autoprune.study.worker` in the kit of executors: speaks as it does, and loads nothing.

``python _stand_in.py <folder> <number> <threads>``. It reads jobs from its input and writes answers to its output, one
JSON document a line, after a first one that says what kept it from working, or nothing. Like the worker it ends when
its input does, at once.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from pathlib import Path

GATE, CANNOT_LOAD = "gate", "cannot-load"
"""Files in the folder: jobs that wait are done once the first is there, and the second says what is wrong."""

_BEAT_S, _LONGEST_S = 0.02, 60.0


def perform(job: str, folder: Path, *, alone: bool) -> str:
    """Do a job.

    Args:
        job: JSON: its ``number``, what to ``do`` (``answer``, ``wait`` or ``die``), and a ``text`` to give back.
        folder: Where a file ``begun-<number>`` tells that it was begun.
        alone: Whether this process is a worker's, so that it may die.

    Returns:
        JSON: the ``number`` and what was ``done``, the text.
    """
    order = json.loads(job)
    (folder / f"begun-{order['number']}").touch()
    if order["do"] == "die" and alone:
        os._exit(9)
    end = time.monotonic() + _LONGEST_S
    while order["do"] == "wait" and not (folder / GATE).exists() and time.monotonic() < end:
        time.sleep(_BEAT_S)
    return json.dumps({"number": order["number"], "done": order["text"]}, ensure_ascii=False)


def _work(folder: Path) -> None:
    for stream in (sys.stdin, sys.stdout):
        stream.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    complaint = folder / CANNOT_LOAD
    _tell(json.dumps(complaint.read_text(encoding="utf-8") if complaint.exists() else ""))
    if complaint.exists():
        return
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(jobs,), daemon=True).start()
    threading.Thread(target=_beat, args=(folder / f"alive-{os.getpid()}",), daemon=True).start()
    while True:
        _tell(perform(jobs.get(), folder, alone=True))


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _read(jobs: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        jobs.put(line)
    os._exit(1)


def _beat(file: Path) -> None:
    """Show that the process lives: the file grows."""
    while True:
        with file.open("a", encoding="utf-8") as stream:
            stream.write(".")
        time.sleep(_BEAT_S)


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
