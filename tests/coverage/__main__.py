"""The coverage table: ``python -m tests.coverage [--only PATTERN] [--jobs 2] [--output docs/measured/coverage.md]``.

Every case runs in a process of its own with a time limit. Rows go to a JSON-lines file beside the output as they come;
with ``--resume`` cases that it holds are not run again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
    parser.add_argument("--resume", action="store_true", help="keep the rows that are there")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    _CONTEXT.set_forkserver_preload(["torch_pruning", "tests.coverage.preload"])
    started = time.perf_counter()
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
    page = markdown([rows[key] for key in keys], minutes=(time.perf_counter() - started) / 60)
    options.output.write_text(page, encoding="utf-8")


def _process(key: str, limit: float, peer_limit: float) -> Row:
    """Measure one case in a process of its own; what is known when the time runs out is kept."""
    source, _, name = key.partition("/")
    row: Row = {"key": key, "source": source, "name": name, "family": name}
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=report, args=(key, theirs))
    process.start()
    theirs.close()
    seconds, part, died = limit, "error", ""
    deadline = time.monotonic() + seconds
    try:
        while ours.poll(max(0.0, deadline - time.monotonic())):
            row |= ours.recv()
            if part == "error" and ("error" in row or "trains" in row):  # theirs begins
                seconds, part = peer_limit, "tp_error"
                deadline = time.monotonic() + seconds
        died = f"not done after {seconds:.0f} s"
        process.kill()
    except EOFError:
        pass
    process.join()
    if not died and process.exitcode:
        died = f"the process ended with {process.exitcode}"
    return {**row, part: died} if died else row


if __name__ == "__main__":
    main()
