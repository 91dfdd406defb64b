"""What repair gives back: ``python -m tests.coverage.repair [--only PATTERN] [--output PATH]``.

Every architecture of the coverage table loses half of the units of each group, chosen at random. Its outputs' error is
measured as it was cut, after ``bn-recalibration`` and after ``repair``, on inputs that neither has seen.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import multiprocessing
import os
import re
import statistics
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils import _pytree as pytree

from autoprune.plugin import Data, Inputs, PruneContext, Pruned, Recovery, Split
from autoprune.structure import Structure, discover
from autoprune_recoveries.bn_recalibration import BatchNormRecalibration
from autoprune_recoveries.repair import Repair

from .zoo import Case, cases

DATA = Path(os.environ.get("AUTOPRUNE_DATA", "../shared"))

RATIO = 0.5
SAMPLES, ROWS, OTHERS, TESTED = 128, 4000, 64, 64
"""Samples that are fitted, rows of them, further train samples, and those that errors are of."""

Row = dict[str, Any]
_CONTEXT = multiprocessing.get_context("forkserver")


def main() -> None:
    """Run the cases, one after the other, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.coverage.repair", description="What repair gives back.")
    parser.add_argument("--only", default="", help="cases whose name contains one of these, separated by commas")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds for one case")
    parser.add_argument("--resume", action="store_true", help="keep the rows that are there")
    parser.add_argument("--output", type=Path, default=Path("docs/measured/repair_coverage.md"))
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    _CONTEXT.set_forkserver_preload(["tests.coverage.preload"])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    log = options.output.with_suffix(".jsonl")
    rows: dict[str, Row] = {}
    if options.resume and log.exists():
        rows = {row["key"]: row for row in map(json.loads, log.read_text(encoding="utf-8").splitlines())}
    keys = [case.key for case in cases() if any(part in case.key for part in options.only.split(","))]
    with log.open("a" if options.resume else "w", encoding="utf-8") as file:
        for key in keys:
            if key not in rows:
                rows[key] = _process(key, options.limit)
                print(json.dumps(rows[key]), file=file, flush=True)
                print(line(rows[key]), flush=True)
    options.output.write_text(page([rows[key] for key in keys]), encoding="utf-8")


def _process(key: str, limit: float) -> Row:
    """Measure one case in a process of its own."""
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=report, args=(key, theirs))
    process.start()
    theirs.close()
    row: Row = {"key": key, "error": f"not done after {limit:.0f} s"}
    try:
        if ours.poll(limit):
            row = {"key": key, **ours.recv()}
    except EOFError:
        row["error"] = "the process ended"
    process.kill()
    process.join()
    return row


def report(key: str, connection: Connection) -> None:
    """Send the row of a case."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the models' own
    case = next(case for case in cases(key.partition("/")[0]) if case.key == key)
    try:
        connection.send(measure(case))
    except Exception as error:  # noqa: BLE001  whatever it is, it is the row's reason
        connection.send({"error": f"{type(error).__name__}: {error}".partition("\n")[0][:200]})


def measure(case: Case) -> Row:
    """Errors of a case's outputs, relative to their variance."""
    network = case.network()
    structure = discover(network, case.example(2, 0))
    generator = torch.Generator().manual_seed(0)
    kept = structure.select(
        {group.name: torch.rand(group.units, generator=generator) for group in structure.groups},
        {group.name: math.floor(RATIO * group.units) for group in structure.groups},
    )
    pictures = structured(case, SAMPLES + OTHERS + TESTED)
    if len({len(tensor) for tensor in pictures.args}) > 1:
        return {"error": "takes one graph: no samples, of which some could be held out"}
    train, test = pictures[: SAMPLES + OTHERS], pictures[SAMPLES + OTHERS :]
    context = _context(network, structure, train)
    cut = structure.cut(network, kept).eval()
    expected = _outputs(network, test)
    row: Row = {"form": structure.form, "groups": len(structure.groups), "cut": _error(cut, test, expected)}
    recoveries: dict[str, Recovery] = {
        "recalibrated": BatchNormRecalibration(samples=SAMPLES, batch_size=SAMPLES),
        "repaired": Repair(samples=SAMPLES, rows=ROWS),
    }
    for name, recovery in recoveries.items():
        pruned = Pruned(copy.deepcopy(cut), kept)
        started = time.perf_counter()
        recovery.recover(pruned, context)
        row |= {name: _error(pruned.network, test, expected), f"{name}_s": time.perf_counter() - started}
    return row


def structured(case: Case, samples: int) -> Inputs:
    """Inputs as a case takes them, with something in them: photographs, sentences, waves."""
    return Inputs(tuple(_structured(each, seed) for seed, each in enumerate(case.example(samples, 1))))


def _structured(like: Tensor, seed: int) -> Tensor:
    if not like.is_floating_point():
        return _sentences(like)
    if like.dim() == 4 and like.shape[1] == 3:
        return _photographs(like)
    generator = torch.Generator().manual_seed(seed)
    steps, made = like.shape[-1], torch.zeros(like.shape)
    for _ in range(6):  # a few waves for every channel
        pace, phase, size = (torch.rand((*like.shape[:-1], 1), generator=generator) for _ in range(3))
        made += size * torch.sin(2 * math.pi * (4 * pace * torch.arange(steps) / steps + phase))
    return made


def _photographs(like: Tensor) -> Tensor:
    """CIFAR-10's, in that size, of mean 0 and deviation 1."""
    import io

    import numpy
    import pyarrow.parquet
    from PIL import Image

    table = pyarrow.parquet.read_table(DATA / "data/cifar10/test.parquet", columns=["img"]).slice(0, len(like))
    pixels = [numpy.asarray(Image.open(io.BytesIO(each["bytes"]))) for each in table["img"].to_pylist()]
    images = torch.tensor(numpy.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    images = interpolate(images, like.shape[2:], mode="bilinear")
    return (images - images.mean()) / images.std()


def _sentences(like: Tensor) -> Tensor:
    """SST-2's: a number for each word, the frequent ones first, as many as the case's own have."""
    from collections import Counter

    import pyarrow.parquet

    words = " ".join(pyarrow.parquet.read_table(DATA / "data/sst2/train.parquet")["sentence"].to_pylist()).split()
    numbers = {word: number for number, (word, _) in enumerate(Counter(words).most_common())}
    top = int(like.max())
    text = torch.tensor([min(numbers[word], top) for word in words[: like.numel()]])
    return text.view(like.shape)


def _context(network: nn.Module, structure: Structure, train: Inputs) -> PruneContext:
    split = Split.of_tensors(train, torch.zeros(len(train)))
    unused: Any = None
    return PruneContext(
        device=torch.device("cpu"),
        seed=0,
        data=Data(split, split, split, 2),
        task=unused,
        groups=structure.groups,
        dense=network,
        build=unused,
        start=lambda: Pruned(lambda: structure.cut(network, {}).eval()),
        score=unused,
        select=structure.select,
        cut=unused,
        rows=lambda pruned, layer: structure.rows(pruned.kept, layer),
        once=unused,
        predictor=lambda bare: bare,
    )


def _outputs(network: nn.Module, inputs: Inputs) -> list[Tensor]:
    with torch.no_grad():
        leaves = pytree.tree_leaves(inputs.feed(network))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _error(network: nn.Module, inputs: Inputs, expected: list[Tensor]) -> float:
    """Mean squared error, relative to the outputs' variance over samples."""
    made = _outputs(network, inputs)
    off = sum(float((a - b).square().sum()) for a, b in zip(made, expected, strict=True))
    return off / sum(float((b - b.mean(0)).square().sum()) for b in expected)


def page(rows: list[Row]) -> str:
    """The page of all rows."""
    good = [row for row in rows if "error" not in row and row["cut"] > 0]
    ratios = sorted(row["repaired"] / row["cut"] for row in good)
    old = sorted(row["recalibrated"] / row["cut"] for row in good)
    lines = [
        "# What repair gives back, by architecture",
        "",
        "Made by `python -m tests.coverage.repair`, on one CPU thread. The architectures of [coverage.md](coverage.md)",
        "with random weights lose half of the units of every group, chosen at random. *as cut*: mean squared error of",
        "the outputs, relative to the dense outputs' variance over samples. *recalibrated*, *repaired*: the same error",
        f"divided by that of the cut network, after `bn-recalibration` on {SAMPLES} samples and after `repair` on as",
        f"many of {SAMPLES + OTHERS}, with {ROWS:,} rows. Errors are of {TESTED} other samples. Inputs are photographs",
        "of CIFAR-10 in the size that the network takes, words of SST-2 numbered by frequency, sums of waves for",
        "anything else.",
        "",
        f"- {len(good)} of {len(rows)} architectures were run.",
        f"- repaired: median {statistics.median(ratios):.3f}, nine in ten ≤ {ratios[int(0.9 * len(ratios))]:.2f},",
        f"  worst {ratios[-1]:.2f}; above 1: {sum(ratio > 1 for ratio in ratios)}; left as cut, since no fit was",
        f"  possible, or better on other samples: {sum(ratio == 1 for ratio in ratios)}.",
        f"- recalibrated: median {statistics.median(old):.3f}, worst {old[-1]:.2f};",
        f"  above 1: {sum(ratio > 1 for ratio in old)}.",
        "",
        "| architecture | groups | as cut | recalibrated | repaired | repair |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    lines += [line(row) for row in rows]
    return "\n".join(lines) + "\n"


def line(row: Row) -> str:
    """The line of a case."""
    if "error" in row or not row["cut"]:
        return f"| {row['key']} | | {_portable(row.get('error', 'the cut changes nothing'))} | | | |"
    told = f"{row['recalibrated'] / row['cut']:.3f} | {row['repaired'] / row['cut']:.3f}"
    graph = ", as a graph" if row["form"] == "graph" else ""
    return f"| {row['key']}{graph} | {row['groups']} | {row['cut']:.3g} | {told} | {row['repaired_s']:.1f} s |"


def _portable(text: str) -> str:
    """Without the folder that packages are installed in."""
    return re.sub(r"[^\s(]*site-packages/", "", text)


if __name__ == "__main__":
    main()
