"""The coverage table: ``python -m tests.coverage [--only PATTERN] [--jobs 2] [--output docs/measured/coverage.md]``.

Every case runs in a process of its own with a time limit. Rows go to a JSON-lines file beside the output as they come;
with ``--resume`` cases that it holds are not run again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from .further import report_opened
from .measure import report
from .table import Row, line, markdown

_CONTEXT = multiprocessing.get_context("forkserver")


def main() -> None:
    """Run the cases and write the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.coverage", description="The coverage table.")
    parser.add_argument("--only", default="", help="cases whose name contains one of these, separated by commas")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--limit", type=float, default=150.0, help="seconds for one case")
    parser.add_argument("--peer-limit", type=float, default=45.0, help="seconds of them for Torch-Pruning")
    parser.add_argument("--output", type=Path, default=Path("docs/measured/coverage.md"))
    parser.add_argument("--note", default="", help="a remark on this machine or these runs, for the page's head")
    parser.add_argument("--resume", action="store_true", help="keep the rows that are there")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    _CONTEXT.set_forkserver_preload(["torch_pruning", "tests.coverage.preload"])
    log = options.output.with_suffix(".jsonl")
    log.parent.mkdir(parents=True, exist_ok=True)
    rows: dict[str, Row] = {}
    if options.resume and log.exists():
        rows = {row["key"]: row for row in map(json.loads, log.read_text(encoding="utf-8").splitlines())}
    from .zoo import cases

    keys = [case.key for case in cases() if any(part in case.key for part in options.only.split(","))]
    missing = [key for key in keys if key not in rows]
    with ThreadPoolExecutor(options.jobs) as pool, log.open("a" if options.resume else "w", encoding="utf-8") as file:
        for row in pool.map(lambda key: _process(key, options.limit, options.peer_limit), missing):
            rows[row["key"]] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(line(row), flush=True)
    page = markdown([rows[key] for key in keys], note=options.note)
    options.output.write_text(page, encoding="utf-8")


def _process(key: str, limit: float, peer_limit: float) -> Row:
    """Measure one case in a process of its own, and open its saved cut in another."""
    source, _, name = key.partition("/")
    row: Row = {"key": key, "source": source, "name": name, "family": name}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "model"
        row |= _measured(key, folder, limit, peer_limit)
        if "opened" not in row and folder.exists():
            row |= _opened(key, folder, limit)
    return row


def _measured(key: str, folder: Path, limit: float, peer_limit: float) -> Row:
    """What is known when the time runs out is kept."""
    row: Row = {}
    ours, process = _started(report, key, folder)
    part, died = "error", ""
    deadline = time.monotonic() + limit
    try:
        while ours.poll(max(0.0, deadline - time.monotonic())):
            row |= ours.recv()
            if part == "error" and ("error" in row or "trains" in row):  # theirs begins
                limit, part = peer_limit, "tp_error"
                deadline = time.monotonic() + limit
        died = f"not done after {limit:.0f} s"
        process.kill()
    except EOFError:
        pass
    process.join()
    if not died and process.exitcode:
        died = f"the process ended with {process.exitcode}"
    return {**row, part: died} if died else row


def _opened(key: str, folder: Path, limit: float) -> Row:
    ours, process = _started(report_opened, key, folder)
    row: Row = {"opened": f"not opened after {limit:.0f} s"}
    try:
        if ours.poll(limit):
            row = ours.recv()
    except EOFError:
        row = {"opened": "the process ended"}
    process.kill()
    process.join()
    return row


def _started(target: Callable[..., None], key: str, folder: Path) -> tuple[Connection, BaseProcess]:
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=target, args=(key, folder, theirs))
    process.start()
    theirs.close()
    return ours, process


if __name__ == "__main__":
    main()
