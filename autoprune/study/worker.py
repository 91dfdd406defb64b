"""A worker process: ``python -m autoprune.study.worker <study folder> <index> <threads>``.

It reads jobs from its input and writes answers to its output, one JSON document a line. The first line that it writes
is a text: what kept it from loading the problem, or nothing. It ends when its input does, at once: then the coordinator
is gone.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import TextIO

import torch

from autoprune.errors import AutopruneError
from autoprune.host.plugins import PluginHost
from autoprune.study.folder import StudyFolder
from autoprune.study.jobs import perform
from autoprune.study.resolution import resolve
from autoprune.study.trial import Runner


def main(study: Path, index: int, threads: int) -> None:
    """Work until the input ends."""
    torch.set_num_threads(threads)
    jobs, results = _channels()
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(jobs, lines), daemon=True).start()
    try:
        host = PluginHost()
        problem = resolve(StudyFolder.open(study).spec(host), host, worker=index)
    except AutopruneError as error:
        print(json.dumps(str(error)), file=results, flush=True)
        return
    print(json.dumps(""), file=results, flush=True)
    runner = Runner(problem, study)
    while True:
        print(perform(lines.get(), runner), file=results, flush=True)


def _channels() -> tuple[TextIO, TextIO]:
    """The pipes to the coordinator, out of reach of components: those read nothing, and print to the log."""
    jobs, results = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return jobs, results


def _read(jobs: TextIO, lines: queue.SimpleQueue[str]) -> None:
    for line in jobs:
        lines.put(line)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
