"""Thirty models that nobody chose, searched: ``python -m tests.coverage.any_model [--only PATTERN] [--output PAGE]``.

Each is written to a folder with random weights and data in its form, explained and searched for four trials by the
real command, and the smallest member of its front is opened in a new process. What is said there of the test split has
to be what the search recorded. Rows go to a JSON-lines file beside the page as they come; with ``--resume`` models that
it holds are not searched again.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .any_model_cases import AnyModel, cases

Row = dict[str, Any]
SAME = 1e-4
"""Largest deviation of the test loss, relative to it, that is float32 added up in another order."""
_SPEC = {
    "name": "any",
    "search_space": {"ratio": {"high": 0.8}},
    "strategy": {"use": "one-shot", "recover": {"use": "none"}},
    "evaluators": [{"use": "loss"}, {"use": "params"}],
    "objectives": {"loss": "minimize", "params": "minimize"},
    "search": {"trials": 4, "seed": 0},
    "device": "cpu",
    "tracking": {"enabled": False},
}
_PACKAGES = ("torch", "transformers", "timm")


def main() -> None:
    """Search them and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.coverage.any_model")
    parser.add_argument("--only", default="", help="models whose name contains one of these, separated by commas")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for one command")
    parser.add_argument("--output", type=Path, default=Path("docs/measured/any-model.md"))
    parser.add_argument("--resume", action="store_true", help="keep the rows that are there")
    options = parser.parse_args()
    log = options.output.with_suffix(".jsonl")
    rows: dict[str, Row] = {}
    if options.resume and log.exists():
        rows = {row["key"]: row for row in map(json.loads, log.read_text(encoding="utf-8").splitlines())}
    every = [case for case in cases() if any(part in case.key for part in options.only.split(","))]
    with log.open("a" if options.resume else "w", encoding="utf-8") as file:
        for case in (case for case in every if case.key not in rows):
            with tempfile.TemporaryDirectory() as folder:
                row = rows[case.key] = searched(case, Path(folder), limit=options.limit)
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(json.dumps(row), flush=True)
    options.output.write_text(page([rows[case.key] for case in every]), encoding="utf-8")


def searched(case: AnyModel, folder: Path, *, limit: float = 600.0) -> Row:
    """The row of a model."""
    row: Row = {"key": case.key, "source": case.source, "kind": case.kind, "name": case.name}
    started = time.perf_counter()
    try:
        spec = {**_SPEC, **case.prepare(folder)}
        (folder / "spec.yaml").write_text(json.dumps(spec), encoding="utf-8")
        explained = _command(folder, limit, "autoprune.cli", "explain", "spec.yaml", "--json")
        row |= {"params": explained["dense"]["params"], "form": explained["form"], "groups": len(explained["groups"])}
        row["uncut"] = [f"{each['layer']}: {each['reason']}" for each in explained["uncut"]]
        found = _command(folder, limit, "autoprune.cli", "search", "spec.yaml", "--json")
        row["trials"] = found["trials"]
        smallest = min(found["front"], key=lambda member: member["metrics"]["params"])
        row |= {"left": smallest["metrics"]["params_ratio"], "recorded": smallest["test"]["loss"]}
        row |= _command(folder, limit, "tests.coverage.any_model_opened", str(folder), smallest["model"])
    except Exception as error:  # noqa: BLE001  whatever it is, it is the row's reason
        row["error"] = str(error) if isinstance(error, RuntimeError) else f"{type(error).__name__}: {error}"
    return {**row, "seconds": time.perf_counter() - started}


def _command(folder: Path, limit: float, module: str, *arguments: str) -> Any:
    """What a command says in JSON, run in a process of its own.

    Raises:
        RuntimeError: It failed, or took too long; the last line that it wrote.
    """
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=limit, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{' '.join(arguments[:1])} is not done after {limit:.0f} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line] or [f"exit code {done.returncode}"]
        raise RuntimeError(f"{arguments[0]}: {lines[-1]}" + (f" ({len(lines)} lines)" if len(lines) > 3 else ""))
    return json.loads(done.stdout)


def good(row: Row) -> bool:
    """Whether all trials ran and the opened model says what was recorded."""
    ended = "error" not in row and row["trials"]["complete"] + row["trials"]["rejected"] == 4
    return ended and abs(row["opened"] - row["recorded"]) <= SAME * abs(row["recorded"])


_ABOUT = """
Which models: of the alphabetical list of types that `AutoModelForSequenceClassification` knows, seven, of
`AutoModelForCausalLM` seven and of `AutoModelForImageClassification` six, every n-th from the first; of timm's modules
in the alphabet ten, every n-th from the first, and of each the model with the fewest parameters. Configurations of
transformers are their own with small sizes (width 32, two blocks, four heads); weights are random, images of 64 pixels
where the model takes them.

*smallest*: parameters of the smallest member of the front, as a share of the dense model's. *loss*: of that one on
the test split, as the search recorded it, and as a new process has it that opens the saved model. *from_pretrained*:
whether `save_pretrained` writes a folder that it opens, with the same predictions; *refuses* where no configuration
tells the sizes, as is usual where each layer has a ratio of its own. *graph*: the pruned model is the exported graph,
because the model's own code refuses other sizes.
"""
_HEAD = """
| model | of | parameters | groups | form | trials | smallest | loss recorded | opened | from_pretrained | time |
|---|---|--:|--:|---|---|--:|--:|--:|---|--:|"""


def page(rows: Sequence[Row]) -> str:
    """As markdown."""
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in _PACKAGES)
    lines = [
        "# Thirty models nobody chose",
        f"\nMade by `python -m tests.coverage.any_model` with {versions}, on one CPU core that did other work, too.",
        f"\nSearched, saved and opened with the same predictions: {sum(map(good, rows))} of {len(rows)}.",
        _ABOUT.rstrip(),
        _HEAD,
        *map(_line, rows),
    ]
    lines += ["\n## What fails or stays whole\n", "Layers that feed the output stay whole in every model.\n"]
    for row in rows:
        reasons = [reason for reason in row.get("uncut", []) if not reason.endswith("it is an output of the model")]
        if row.get("error"):
            lines.append(f"- {row['key']}: **{row['error']}**")
        elif reasons:
            lines.append(f"- {row['key']}, {len(reasons)} layers: {'; '.join(_different(reasons)[:3])}")
    return "\n".join(lines) + "\n"


def _different(reasons: Sequence[str]) -> list[str]:
    """One layer of each reason."""
    return list({reason.partition(": ")[2].partition(" in ")[0]: reason for reason in reversed(reasons)}.values())[::-1]


def _line(row: Row) -> str:
    if "error" in row:
        return f"| {row['name']} | {row['kind']} | " + "– | " * 3 + f"**fails** | {'– | ' * 4}{row['seconds']:.0f} s |"
    trials = row["trials"]
    told = f"{trials['complete']} complete" + (f", {trials['rejected']} rejected" if trials["rejected"] else "")
    told += f", **{trials['failed']} failed**" if trials["failed"] else ""
    cells = [
        row["name"],
        row["kind"],
        f"{row['params']:,}",
        str(row["groups"]),
        row["form"],
        told,
        f"{row['left']:.0%}",
        f"{row['recorded']:.5f}",
        f"{row['opened']:.5f}" if good(row) else f"**{row['opened']:.5f}**",
        row["pretrained"],
        f"{row['seconds']:.0f} s",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
