"""The coverage table as markdown."""

from __future__ import annotations

import importlib.metadata
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

PARITY = 1e-4
"""Largest deviation, relative to max(1, largest output), that passes for rounding (float32)."""

_PACKAGES = ("torch", "torchvision", "timm", "transformers", "torch-pruning")

FURTHER = {"train_parity": "in train()", "resized": "resized", "opened": "opened"}
"""Deviations that are looked at beside parity, and what their columns are called."""

_INSTALLED = re.compile(r"\S*/site-packages/")
"""Where a machine has its packages."""

Row = dict[str, Any]


def exact(row: Row) -> bool:
    """Whether everything that was offered is exact, trains and is counted right."""
    good = row.get("parity", float("inf")) < PARITY and row.get("trains") and row.get("params_equal")
    return bool(good and row.get("groups"))


def line(row: Row) -> str:
    """One row on the terminal."""
    said = f"{row['key']:42}"
    if "share" in row:
        said += f" {row['groups']:4} groups {row['units']:6} units, {row['share']:6.1%} can be cut"
    if "parity" in row:
        said += f", parity {row['parity']:.1e}, trains {row.get('trains')}, params {row.get('params_equal')}"
        said += "".join(f", {name} {_told(row, name)}" for name in FURTHER)
    if "seconds" in row:
        said += f", {row['seconds']:.1f} s"
    if row.get("error"):
        said += f" | {row['error']}"
    return f"{said} | Torch-Pruning {row.get('tp_share', 0):.1%} {row.get('tp_error', '')[:90]}"


_ABOUT = """
*can be cut*: 1 − parameters with every group cut to one unit / parameters. *at .9*: share of parameters gone when every
group loses 90 % of its units. *parity*: largest deviation of the sliced from the masked model, relative to max(1,
largest output), over 3 random candidates on fresh inputs. *in train()*: the same with dropout off and batch norms on
the batch's statistics (in float64 where float32 has more than 1e-4). *resized*: the same on inputs of another size,
where the dense model takes one; *refused* is a line that says so. *opened*: deviation of a saved cut that `load_pruned`
opened in a new process. *counted*: the parameters of the sliced model are those that were computed. *form*: what is
cut, the model's modules or its exported graph. *Torch-Pruning*: share of parameters gone in the smallest model that it
makes and that still runs, among ratios of .9, .5 and .3 (MetaPruner, random importance, output layer ignored, told the
number of heads).
Whether that model computes what it should is not looked at.
"""

_HEAD = """
| family | model | form | groups | units | can be cut | at .9 | parity | in train() | resized | opened | trains | \
counted | discovery | Torch-Pruning |
|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|---|--:|---|"""


def markdown(rows: Sequence[Row], note: str = "") -> str:
    """The whole page.

    Args:
        rows: Of the cases.
        note: On this machine or these runs.
    """
    silent = [row["key"] for row in rows if any(_wrong(row, name) for name in ("parity", *FURTHER))]
    behind = [row["key"] for row in rows if not _ahead(row)]
    runs = sum(row.get("tp_ratio") is not None for row in rows)
    lines = [
        "# Coverage of the structure engine",
        f"\nMade by `python -m tests.coverage` with {_versions()}.",
        f"Random weights (seeded; scales and statistics perturbed), small inputs. {note}".rstrip() + "\n",
        f"- {len(rows)} architectures. Exact, trainable and counted right on {_share(rows, exact)}.",
        f"- Silent errors (a cut was offered and its result differs): {len(silent)} {' '.join(silent)}".rstrip(),
        *(f"- {title}: {_counted(rows, name)}." for name, title in FURTHER.items()),
        f"- Torch-Pruning makes a model that runs for {runs} of {len(rows)}.",
        f"- It removes more than ours at the same ratio, or ours fails, for {len(behind)}: {', '.join(behind) or '–'}.",
        _ABOUT.rstrip(),
    ]
    for source in dict.fromkeys(row["source"] for row in rows):
        lines += [f"\n## {source}", _HEAD, *(_row(row) for row in rows if row["source"] == source)]
    lines.append("\n## What fails or stays whole\n")
    for row in rows:
        if row.get("error"):
            lines.append(f"- {row['key']}: {_INSTALLED.sub('', row['error'])}")
        elif row.get("share", 0.0) < 0.9 and row.get("uncut"):
            lines.append(f"- {row['key']}: " + "; ".join(row["uncut"][:3]))
    return "\n".join(lines) + "\n"


def _wrong(row: Row, name: str) -> bool:
    return isinstance(row.get(name), float) and row[name] >= PARITY


def _told(row: Row, name: str) -> str:
    """A deviation, or in a word why there is none."""
    value = row.get(name, "–")
    if isinstance(value, float):
        return f"{value:.0e}"
    said: str = {"the dense one takes none": "–", "the dense one does not run": "as dense"}.get(value, value)
    return _INSTALLED.sub("", said)


def _ahead(row: Row) -> bool:
    return exact(row) and row.get("share_at_ratio", 0.0) >= row.get("tp_share", 0.0) - 0.005


def _counted(rows: Sequence[Row], name: str) -> str:
    """How many are exact, and what the others say."""
    found = Counter(
        "exact" if isinstance(row[name], float) and row[name] < PARITY else "**differs**" if _wrong(row, name)
        else _told(row, name).partition(":")[0]
        for row in rows
        if name in row
    )  # fmt: skip
    return ", ".join(
        f"{number} {what.replace('–', 'the dense model takes no other')}" for what, number in found.most_common()
    )


def _share(rows: Sequence[Row], of: Any) -> str:
    found = sum(map(of, rows))
    return f"{found} ({found / max(1, len(rows)):.0%})"


def _versions() -> str:
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def _row(row: Row) -> str:
    def yes(name: str) -> str:
        return {True: "yes", False: "**no**", None: "–"}.get(row.get(name), "as dense")

    def number(name: str, form: str) -> str:
        return format(row[name], form) if name in row else "–"

    theirs = f"{row.get('tp_share', 0.0):.0%}"
    if row.get("tp_ratio") is None:
        theirs = "fails"
    elif row["tp_ratio"] != 0.9:
        theirs += f" (ratio {row['tp_ratio']})"
    cells = [
        row["family"],
        row["name"],
        row.get("form", "–"),
        number("groups", "d"),
        number("units", "d"),
        number("share", ".0%"),
        number("share_at_ratio", ".0%"),
        number("parity", ".0e"),
        *(_told(row, name) for name in FURTHER),
        yes("trains"),
        yes("params_equal"),
        number("seconds", ".1f") + (" s" if "seconds" in row else ""),
        theirs,
    ]
    return "| " + " | ".join(cells) + " |"
