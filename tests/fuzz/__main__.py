"""``python -m tests.fuzz specs 20000 [--seed 0]``: fuzzes one kind of file, and tells counts, time and memory."""

from __future__ import annotations

import argparse
import os
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from random import Random

from .guard import SECONDS, Peak, opened
from .targets import TARGETS


def main() -> None:
    """Fuzz."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzzes one kind of file.")
    parser.add_argument("kind", choices=list(TARGETS))
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name).resolve()
        (folder / "good").mkdir()
        (folder / "bad").mkdir()
        os.chdir(folder / "bad")
        target, faults = TARGETS[options.kind](folder / "good"), Counter[str]()
        target.lay(folder / "bad", target.good[0])
        opened(lambda: target.open(folder / "bad"), folder)  # libraries are imported
        peak, refused = Peak(), 0
        for number in range(options.count):
            target.lay(folder / "bad", target.changed(Random(f"{options.seed} {number}")))
            try:
                with peak.timed(number):
                    refused += bool(opened(lambda: target.open(folder / "bad"), folder / "bad", seconds=SECONDS))
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                where = traceback.extract_tb(error.__traceback__)[-1]
                fault = f"{type(error).__name__}: {' '.join(str(error).split()):.150} ({where.filename}:{where.lineno})"
                faults[fault] += 1
                if faults[fault] == 1:
                    print(f"number {number}: {fault}", flush=True)
        fine = options.count - refused - faults.total()
        print(
            f"{options.kind}: {options.count} mutated, {refused} refused, {fine} opened, {faults.total()} faults; the"
            f" slowest {peak.seconds:.2f} s (number {peak.number}), the process grew by {peak.grown_mb} MB"
        )


if __name__ == "__main__":
    main()
