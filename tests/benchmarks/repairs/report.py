"""``docs/measured/repair.md`` and its figure from the results that are there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from . import cost
from .bench import CALIBRATION, LEVELS, NETWORKS, SCORERS
from .figures import figure
from .methods import METHODS
from .run import file_of

SHOWN = "l2"
"""The scorer of the figure."""
TARGETS = {0.56: 0.81, 0.35: 0.70}
"""Of ResNet-20's accuracy."""
DENSE = {"resnet20": 0.8725, "resnet56": 0.8868}
SEEDS = range(100)
Points = dict[float, list[float]]
"""Level to the accuracies of all seeds."""


def write_report(results: Path, *, output: Path, note: str = "") -> None:
    """Write the page, and the figure beside it.

    Args:
        results: Folder of the results.
        output: The page; the figure's name is its name.
        note: A remark for its head.
    """
    stored = {
        (network, scorer, method): runs
        for network in NETWORKS
        for scorer in SCORERS
        for method in METHODS
        if (runs := [run for seed in SEEDS if (run := _read(file_of(results, network, scorer, method, seed)))])
    }
    macs = {
        (network, point["level"]): point["macs"]
        for (network, _, _), runs in stored.items()
        for point in runs[0]["points"]
    }
    shown = [network for network in NETWORKS if any(each == network for each, _, _ in stored)]
    drawn = {
        network: {
            method: {macs[network, level]: found for level, found in _points(runs).items()}
            for method in METHODS
            if (runs := stored.get((network, SHOWN, method)))
        }
        for network in shown
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".svg").write_text(figure(drawn, DENSE), encoding="utf-8")
    costs = {name: _read(results / f"{name}.json") for name in _cost_files(list(NETWORKS))}
    environments = [run["environment"] for runs in stored.values() for run in runs]
    environments += [found["environment"] for found in costs.values() if found]
    parts = [
        "# Repairs compared, and what they cost",
        _head(environments, note),
        f"![Accuracy over multiply-accumulates, without training]({output.with_suffix('.svg').name})",
        _CAPTION.format(scorer=_scorer(SHOWN)),
        *(_section(network, stored, macs) for network in shown),
        "## What a candidate's repair costs",
        *_costs(costs, list(NETWORKS)),
    ]
    output.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


_CAPTION = """\
Units ranked by {scorer}. Lines are medians over the calibration seeds, bands go from the worst to the best of them; the
thin line is the dense model."""


def _head(environments: Sequence[Mapping[str, str]], note: str) -> str:
    def told(key: str) -> str:
        return ", ".join(sorted({each[key] for each in environments})) or "nothing measured"

    return _HEAD.format(
        cpu=told("cpu"),
        bfloat16=told("bfloat16"),
        versions=told("versions"),
        loads=f"{min(float(e['load']) for e in environments):g} to {max(float(e['load']) for e in environments):g}",
        calibration=f"{CALIBRATION:,}",
        note=f"\n\n{note}" if note else "",
    )


_HEAD = """\
Made by `python -m tests.benchmarks.repairs` on one thread of {cpu}, {bfloat16}; {versions}; other jobs ran beside it
(load average {loads}). Accuracy is on all 10,000 test images of CIFAR-10, in float32. Nothing is trained, and no label
is used.{note}

Every method gets the same network, cut by one ratio for all groups (the stream of the shortcuts is one of them), with
the same units kept; ratios are those whose multiply-accumulates come nearest to the levels. A seed says which train
images the repairs see. None of the published ones was made for these networks, so they are made again in the benchmark
and called *-like*:

- *FLAP-like* (arXiv:2312.11983): a channel that is gone counts as its mean.
- *GRAIL-like* (arXiv:2602.23795, as its code does it for ResNets): the inputs of a layer are mixed from those that it
  still gets, by ridge regression on second moments of the dense network's inputs; then the norms' statistics are taken
  anew. *Weights alone* is the same without that.
- *CORP-like* (arXiv:2602.05243): channels that are gone are affine in those that stay. CORP was made for transformers,
  which have no batch norms; with and without taking their statistics anew.
- *BALF-like* (arXiv:2509.25136) cuts no unit: layers become products of two thin ones, ranks by a budget of
  multiply-accumulates, seen through second moments of what the layers read. It is compared at equal
  multiply-accumulates, of which it gets as many as the cut network has.
- `bn-recalibration` sees 512 images, those four {calibration}, ours as many as its row says, at so many positions of
  each layer at most."""


def _section(network: str, stored: Mapping[tuple[str, str, str], Sequence[Any]], macs: Mapping[Any, float]) -> str:
    parts = [f"## {NETWORKS[network]}, dense {DENSE[network]:.4f}"]
    for scorer in SCORERS:
        rows = []
        for method in METHODS:
            runs = stored.get((network, scorer, method))
            if runs:
                points = _points(runs)
                cells = (_spread(points[level], TARGETS.get(level) if network == "resnet20" else None, method)
                         for level in LEVELS)  # fmt: skip
                rows.append([METHODS[method].title, str(len(runs)), *cells])
        if rows:
            head = ("repair", "seeds", *(f"{100 * macs[network, level]:.1f} % of the MACs" for level in LEVELS))
            parts.append(f"Units ranked by {_scorer(scorer)}; median (worst–best):\n\n{_table(head, rows)}")
    if network == "resnet20":
        goals = " and ".join(f"{goal:.2f} at {100 * level:.0f} %" for level, goal in TARGETS.items())
        parts.append(f"Bold: at least what is aimed at, {goals} of the multiply-accumulates.")
    return "\n\n".join(parts)


def _scorer(scorer: str) -> str:
    return {"l1": "L1 of the filters that make them", "l2": "L2 of the weights that read them"}[scorer]


def _points(runs: Sequence[Mapping[str, Any]]) -> Points:
    found: Points = {level: [] for level in LEVELS}
    for run in runs:
        for point in run["points"]:
            found[point["level"]].append(point["accuracy"])
    return found


def _spread(values: Sequence[float], goal: float | None, method: str) -> str:
    middle = f"{median(values):.4f}"
    if goal is not None and method.startswith("repair") and median(values) >= goal:
        middle = f"**{middle}**"
    return middle if len(values) == 1 else f"{middle} ({min(values):.4f}–{max(values):.4f})"


def _cost_files(networks: Sequence[str]) -> list[str]:
    return [*(f"{network}/{what}" for network in networks for what in ("seconds", "memory")), "growth"]


def _costs(costs: Mapping[str, Any], networks: Sequence[str]) -> list[str]:
    parts = []
    rows = []
    for network in networks:
        for level, spent in (costs.get(f"{network}/seconds") or {}).items():
            if level != "environment":
                repair, other = (median(spent[name]) for name in ("repair", "recalibration"))
                ratio = median(a / b for a, b in zip(spent["repair"], spent["recalibration"], strict=True))
                rows.append(
                    [NETWORKS[network], level, f"{other:.2f}", f"{repair:.2f}", f"{ratio:.2f}", f"{spent['first']:.2f}"]
                )
    if rows:
        head = ("network", "MACs left", "`bn-recalibration`, 512", "`repair`", "ratio", "a study's first `repair`")
        parts.append(
            f"CPU seconds of one thread, both recoveries in turn, medians of {cost.ROUNDS} rounds; a study's first "
            f"repair runs the dense network, too. Aimed at: a ratio of 1.5 at most.\n\n{_table(head, rows)}"
        )
    rows = []
    for network in networks:
        found = costs.get(f"{network}/memory")
        if found:
            peaks = [found[part]["peak"] for part in cost.PARTS]
            over = (f"{peak:.0f} ({peak / peaks[0]:.2f})" for peak in peaks[1:])
            rows.append([NETWORKS[network], f"{found['dense']['loaded']:.0f}", f"{peaks[0]:.0f}", *over])
    if rows:
        head = ("network", "model and data loaded", f"dense evaluated in batches of {cost.BATCH}",
                "recalibration", "`repair`", "`repair`, as the front gets it")  # fmt: skip
        parts.append(
            "Peak of a process (resident set, MiB; over that of the one that evaluates the dense model). Aimed at: 1.5 "
            f"at most.\n\n{_table(head, rows)}"
        )
    found = costs.get("growth")
    if found:
        rows = [
            [what if index == 0 else "", value, *_pair(spent)]
            for what in cost.GROWTH
            for index, (value, spent) in enumerate(found[what].items())
        ]
        usual = ", ".join(f"{what} {value:,}" for what, value in cost.USUAL.items())
        head = ("what grows", "", "`bn-recalibration`, 512", "`repair`", "ratio")
        parts.append(
            "How it grows: plain nets of 3 × 3 convolutions with norms, on 16 × 16 pixels, cut by .3 in all groups; "
            f"usually {usual}. CPU seconds.\n\n{_table(head, rows)}"
        )
    return parts


def _pair(spent: Mapping[str, float]) -> list[str]:
    ratio = spent["repair"] / spent["recalibration"]
    return [f"{spent['recalibration']:.2f}", f"{spent['repair']:.2f}", f"{ratio:.2f}"]


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
