"""Repairs on the same cut networks, and what they cost: ``python -m tests.benchmarks.repairs``.

    --networks resnet20 resnet56    --scorers l2 l1    --methods repair affine    --seeds 5
    --report                        runs nothing: writes the page from the results that are there

A run is a network, a scorer, a method and a seed of the calibration samples; its result is a file under ``--results``,
and what is there is not run again. ``docs/measured/repair.md`` and its figure are written at the end. Every run is on
one thread; set ``OMP_NUM_THREADS=1``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from . import cost
from .bench import NETWORKS, ROOT, SCORERS, Setting
from .methods import METHODS
from .report import write_report
from .run import execute, file_of, write


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing and write the page."""
    options = _options(arguments)
    torch.set_num_threads(1)
    if not options.report:
        for network in options.networks:
            for scorer in options.scorers:
                _run(options, network, scorer)
        cost.run(options.results, options.networks)
    write_report(options.results, output=options.output, note=options.note)
    print(f"wrote {options.output}")


def _run(options: argparse.Namespace, network: str, scorer: str) -> None:
    missing = [
        (method, seed, file)
        for seed in range(options.seeds)
        for method in options.methods
        if (seed == 0 or METHODS[method].seeded)
        and not (file := file_of(options.results, network, scorer, method, seed)).exists()
    ]
    if not missing:
        return
    setting = Setting(network, scorer)
    for method, seed, file in missing:
        if not file.exists():
            write(file, found := execute(setting, method, seed))
            told = ", ".join(f"{point['accuracy']:.4f} at {point['macs']:.3f}" for point in found["points"])
            print(
                f"{time.strftime('%H:%M:%S')} {network} {scorer} {method} {seed}: {told}", file=sys.stderr, flush=True
            )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.repairs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--scorers", nargs="+", choices=SCORERS, default=list(SCORERS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--seeds", type=int, default=5, help="0, 1, … so many")
    parser.add_argument("--results", type=Path, default=ROOT / "runs" / "repairs", help="files of the results")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "measured" / "repair.md")
    parser.add_argument("--note", default="", help="a remark on this machine or these runs, for the page's head")
    parser.add_argument("--report", action="store_true", help="run nothing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
