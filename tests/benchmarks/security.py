"""What pruning does to a model's security: ``python -m tests.benchmarks.security`` writes docs/measured/security.md.

    --models digits mnist resnet20    --examples digits …    --trials 32

Three networks are cut by the same uniform ratios, as they are, repaired and fine-tuned, and measured on test samples
that none of them saw; then the fronts of the example searches are. Every number stands beside its difference from the
dense model on the same samples. One process, one thread; `AUTOPRUNE_DATA` says where the data is.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import autoprune
from autoprune.plugin import Measured

from . import robust_mnist
from .peers.run import environment

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "search_spaces" / "examples"
DATA = Path(os.environ.get("AUTOPRUNE_DATA", ROOT.parent / "shared")).resolve()
RATIOS = 3
"""Uniform ones: a quarter, a half and three quarters of every group."""
ATTACKED = 256
COSTS = ("macs_ratio", "size_ratio", "latency_ratio")

MODELS: dict[str, dict[str, Any]] = {
    "digits": {
        "told": "a small residual net on scikit-learn's digits",
        "model": {"use": "digits-cnn"},
        "data": {"use": "digits"},
        "epsilon": 0.1,
        "epochs": 3,
        "theft": True,
    },
    "mnist": {
        "told": "a four-layer net, trained adversarially (L∞, 0.15) on MNIST",
        "epsilon": 0.2,
        "epochs": 0.5,
        "theft": True,
    },
    "resnet20": {
        "told": "ResNet-20 on CIFAR-10",
        "model": {
            "use": "factory",
            "target": "cifar_resnet:resnet20",
            "weights": f"{DATA}/models/resnet20_cifar10.safetensors",
        },
        "data": {
            "use": "parquet",
            "path": f"{DATA}/data/cifar10",
            "normalize": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
            "validation": 5000,
        },
        "epsilon": "0.5/255",
        "epochs": 0.25,
        "theft": False,
    },
}
RECOVERIES = {
    "as cut": [{"use": "none"}],
    "repaired": [{"use": "repair"}],
    "repaired, fine-tuned": [{"use": "repair"}, {"use": "fine-tune", "lr": 0.005}],
}
METRICS = {
    "accuracy": ("accuracy", "maximize"),
    "robust_accuracy": ("robust accuracy (PGD)", "maximize"),
    "gaussian_accuracy": ("under noise", "maximize"),
    "corruption_accuracy": ("corrupted", "maximize"),
    "membership_auc": ("membership AUC", "minimize"),
    "extraction_fidelity": ("extraction fidelity", "minimize"),
    "explanation_agreement": ("explanations", "maximize"),
}
"""Column and the safe way."""
FRONTS = {
    "digits": "robust_accuracy",
    "digits_membership": "membership_auc",
    "digits_extraction": "extraction_fidelity",
    "digits_noise": "corruption_accuracy",
    "digits_explanations": "explanation_agreement",
}

_WHAT = """\
Articles claim that pruned models are safer against attacks, leak less of their training data, are harder to steal, or
the contrary. Here three networks are cut by the same ratio in every layer (L1) and measured on test samples that
neither they nor the search saw: as they are cut, after `repair`, and after `repair` and a little fine-tuning. A cell
holds the value and its difference from the dense model on the same samples, with the 95 % interval; bold where chance
does not explain it. With so many cells, one in twenty is bold by chance."""
_IN_SHORT = """\
Cuts whose value is surely worse, or better, than the dense model's; what is safe is better: less leaked, less copied,
more withstood."""
CLAIMS = {
    "robust_accuracy": "Does pruning make a model safer against attack?",
    "corruption_accuracy": "Does it make a model steadier under corruption?",
    "membership_auc": "Does it make a model leak less of whom it was trained on?",
    "extraction_fidelity": "Does it make a model harder to steal?",
}
"""What articles say, by the metric that answers."""
_CLAIMS = """\
Of the cuts of one ratio that still keep 90 % of the dense model's accuracy: a model that predicts nothing any more
neither leaks nor can be stolen, which is no safety worth having."""
_FRONTS = """\
The example searches of `search_spaces/examples`, as they stand there: how many members of each front are surely worse
or better than the dense model, and the metric along the front."""

Row = dict[str, Any]


def evaluators(setting: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is measured of each cut, on test samples."""
    found = [
        {"use": "macs"},
        {"use": "accuracy"},
        {"use": "pgd", "epsilon": setting["epsilon"], "steps": 10, "samples": ATTACKED},
        {"use": "gaussian-noise", "deviation": 0.1},
        {"use": "corruption", "severities": [2, 4], "samples": 128},
        {"use": "membership-inference", "samples": 2000},
        {"use": "explanation-agreement", "samples": 128},
    ]
    return found + ([{"use": "model-extraction", "queries": 500}] if setting["theft"] else [])


def cuts(name: str, setting: Mapping[str, Any], recovery: str) -> Iterator[Row]:
    """The dense model and the uniform cuts of it, measured on test samples."""
    steps = [
        step | ({"epochs": setting["epochs"]} if step["use"] == "fine-tune" else {}) for step in RECOVERIES[recovery]
    ]
    with tempfile.TemporaryDirectory(prefix="autoprune-") as folder:
        result = autoprune.search(
            **_objects(name, setting),
            name=name,
            search_space={"ratio": {"high": 0.75}},
            scorer="l1",
            strategy={"use": "one-shot", "recover": steps},
            evaluators=evaluators(setting),
            objectives={"accuracy": "maximize", "macs_ratio": "minimize"},
            search={
                "trials": 1 + RATIOS,
                "ladder": RATIOS,
                "precision": "float32",
                "early_rejection": 0,
                "final": {"samples": "all"},
            },
            tracking={"enabled": False},
            device="cpu",
            output=Path(folder) / "study",
            progress=False,
        )
    if recovery == next(iter(RECOVERIES)):
        yield _row(name, "dense", 0.0, 1.0, result.outcome.dense_test)
    for point in result.front.points:
        if point.trial.origin != "dense":
            ratio = max(point.trial.ratios.values())
            yield _row(name, recovery, ratio, point.trial.metrics["macs_ratio"].value, point.test)


def front(example: str, trials: int) -> Iterator[Row]:
    """The members of an example's front, measured on test samples."""
    with tempfile.TemporaryDirectory(prefix="autoprune-") as folder:
        overrides = (
            f"search.trials={trials}",
            "search.workers=1",
            "search.final.samples=all",
            "tracking.enabled=false",
            "device=cpu",
            f"output={folder}/study",
        )
        result = autoprune.search(
            autoprune.load_spec(EXAMPLES / f"{example}.yaml", overrides=overrides), progress=False
        )
    for point in result.front.points:
        if point.trial.origin != "dense":
            cost = next(point.trial.metrics[name].value for name in COSTS if name in point.trial.metrics)
            yield _row(f"{example}.yaml", "front", 0.0, cost, point.test)
    yield _row(f"{example}.yaml", "dense", 0.0, 1.0, result.outcome.dense_test)


def _objects(name: str, setting: Mapping[str, Any]) -> dict[str, Any]:
    if name == "mnist":
        return {"model": robust_mnist.robust(), "data": robust_mnist.data()}
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))
    return {"model": setting["model"], "data": setting["data"]}


def _row(name: str, how: str, ratio: float, cost: float, metrics: Mapping[str, Measured]) -> Row:
    return {
        "name": name,
        "how": how,
        "ratio": ratio,
        "cost": cost,
        "metrics": {key: value.model_dump() for key, value in metrics.items() if key in METRICS},
    }


def _cell(found: Mapping[str, Any] | None) -> str:
    """A value and its difference from the dense model's, bold where that is more than chance."""
    if found is None:
        return "–"
    difference = found["difference"]
    if difference is None or difference["low"] is None:
        low, high = found["low"], found["high"]
        return _number(found["value"]) + (f" ({_number(low)} to {_number(high)})" if low is not None else "")
    told = f"{difference['value']:+.3f} ({difference['low']:+.3f} to {difference['high']:+.3f})".replace("0.", ".")
    return f"{_number(found['value'])}, {f'**{told}**' if _apart(difference) else told}"


def _number(value: float) -> str:
    return f"{value:.3f}".removeprefix("0") if 0 <= value < 1 else f"{value:.3f}"


def _apart(difference: Mapping[str, float]) -> bool:
    return not difference["low"] <= 0 <= difference["high"]


def _safer(metric: str, difference: Mapping[str, float]) -> bool:
    return (difference["value"] > 0) == (METRICS[metric][1] == "maximize")


def _counted(rows: Sequence[Row], metric: str) -> str:
    """Of how many cuts a metric is surely worse, and better, than of the dense model."""
    found = [row["metrics"][metric]["difference"] for row in rows if metric in row["metrics"]]
    found = [difference for difference in found if difference is not None and difference["low"] is not None]
    if not found:
        return "–"
    sure = [difference for difference in found if _apart(difference)]
    better = sum(_safer(metric, difference) for difference in sure)
    return f"{len(sure) - better} worse, {better} better, of {len(found)}"


def _kept(row: Row, rows: Sequence[Row]) -> bool:
    """Whether a cut still is a model worth having."""
    (dense,) = (each["metrics"]["accuracy"]["value"] for each in rows if each["name"] == row["name"] and _dense(each))
    return bool(row["metrics"]["accuracy"]["value"] >= 0.9 * dense)


def _dense(row: Row) -> bool:
    return bool(row["how"] == "dense")


def _answers(rows: Sequence[Row]) -> str:
    """Each claim, and on how many cuts it holds, or the contrary does."""
    found = []
    for metric, question in CLAIMS.items():
        told = []
        for how in list(RECOVERIES)[1:]:
            kept = [row for row in rows if row["how"] == how and _kept(row, rows)]
            told.append(f"{how}: {_counted(kept, metric)}")
        found.append(f"- {question} {'; '.join(told).capitalize()}.")
    return "\n".join(found)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def page(rows: Sequence[Row], *, command: str, note: str) -> str:
    """The page, all of whose numbers are of the rows."""
    uniform = [row for row in rows if row["name"] in MODELS]
    fronts = [row for row in rows if row["name"] not in MODELS]
    parts = [
        "# What pruning does to a model's security",
        _WHAT,
        f"Made by `{command}` on {', '.join(f'{key} {value}' for key, value in environment().items())}. {note}".strip(),
        "## In short",
        _IN_SHORT,
        _table(
            ["", *RECOVERIES],
            [
                [told, *(_counted([row for row in uniform if row["how"] == how], metric) for how in RECOVERIES)]
                for metric, (told, _) in METRICS.items()
                if metric != "explanation_agreement"
            ],
        ),
    ]
    parts += ["## What it says to the claims", _CLAIMS, _answers(uniform)]
    for name, setting in MODELS.items():
        found = [row for row in uniform if row["name"] == name]
        if not found:
            continue
        shown = {key: told for key, (told, _) in METRICS.items() if any(key in row["metrics"] for row in found)}
        parts += [
            f"## {setting['told'][0].upper()}{setting['told'][1:]}",
            f"PGD: L∞, ε = {setting['epsilon']}, {ATTACKED} samples. Fine-tuning: {setting['epochs']} epochs.",
            _table(
                ["", "ratio", "MACs left", *shown.values()],
                [
                    [row["how"], f"{row['ratio']:.2f}", f"{row['cost']:.1%}"]
                    + [_cell(row["metrics"].get(metric)) for metric in shown]
                    for row in sorted(found, key=lambda row: (row["how"] != "dense", row["ratio"]))
                ],
            ),
        ]
    if fronts:
        parts += [
            "## Fronts",
            _FRONTS,
            _table(
                ["example", "metric", "dense", "against dense", "the front, by what is left of the costs"],
                [
                    _front_row(example, found)
                    for example in FRONTS
                    if (found := [row for row in fronts if row["name"] == f"{example}.yaml"])
                ],
            ),
        ]
    return "\n\n".join(parts) + "\n"


def _front_row(example: str, rows: Sequence[Row]) -> list[str]:
    metric = FRONTS[example]
    (dense,) = (row for row in rows if row["how"] == "dense")
    members = sorted((row for row in rows if row["how"] == "front"), key=lambda row: -row["cost"])
    shown = members[:: max(1, len(members) // 6)]
    along = ", ".join(f"{row['cost']:.0%}: {_number(row['metrics'][metric]['value'])}" for row in shown)
    return [
        f"`{example}.yaml`", METRICS[metric][0], _number(dense["metrics"][metric]["value"]),
        _counted(members, metric), along,
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=MODELS)
    parser.add_argument("--examples", nargs="*", default=list(FRONTS), choices=FRONTS)
    parser.add_argument("--trials", type=int, default=32, help="of each example's search")
    parser.add_argument("--results", type=Path, help="a file that keeps the rows; what is there is not measured again")
    parser.add_argument("--note", default="", help="a remark for the page's head")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "measured" / "security.md")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results = options.results or Path(tempfile.mkdtemp()) / "security.jsonl"
    kept = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    jobs: list[tuple[str, str]] = [(name, how) for name in options.models for how in RECOVERIES]
    jobs += [(f"{example}.yaml", "front") for example in options.examples]
    for name, how in jobs:
        if any(row["name"] == name and row["how"] == how for row in kept):
            continue
        began = time.perf_counter()
        rows = list(
            front(name.removesuffix(".yaml"), options.trials) if how == "front" else cuts(name, MODELS[name], how)
        )
        kept += rows
        with results.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        print(f"{name}, {how}: {len(rows)} rows, {time.perf_counter() - began:.0f} s", flush=True)
    command = "AUTOPRUNE_DATA=… python -m tests.benchmarks.security"
    if options.trials != 32:
        command += f" --trials {options.trials}"
    options.output.write_text(page(kept, command=command, note=options.note), encoding="utf-8")


if __name__ == "__main__":
    main()
