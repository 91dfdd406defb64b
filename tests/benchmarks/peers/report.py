"""``docs/measured/benchmarks.md`` from the results that are there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from .course import Run, Runs, leads_from
from .figures import figure
from .methods import Method
from .record import MEMBERS
from .run import known, result_file
from .tasks import TEST_SAMPLES, Task, budget_of

Found = dict[str, Runs]
"""Method to its runs on one task."""
PLAIN = (20, 80)
"""At the time that so many candidates of random search take."""


def write_report(
    results: Path,
    tasks: Sequence[Task],
    methods: Sequence[Method],
    *,
    seeds: Sequence[int],
    budgets: Mapping[str, int] | None,
    output: Path,
    note: str = "",
) -> None:
    """Write the page and its two figures beside it.

    Args:
        results: Folder of the results.
        tasks: In the page's order.
        methods: In the tables' order.
        seeds: Which runs count.
        budgets: Candidates per kind of method, if not the tasks' own.
        output: The page; a figure's name begins with its name.
        note: A remark for its head.
    """

    def runs_of(task: Task, method: Method) -> list[dict[str, Any]]:
        budget = budget_of(task, method.kind, budgets)
        files = (result_file(results, task.name, method.name, seed) for seed in seeds)
        return [run for file in files if (run := known(file, budget))]

    stored = {task.name: {method.name: runs_of(task, method) for method in methods} for task in tasks}
    found: dict[str, Found] = {
        task.name: {
            name: Runs(tuple(Run.of(task, run) for run in runs if run["points"]))
            for name, runs in stored[task.name].items()
            if any(run["points"] for run in runs)
        }
        for task in tasks
    }
    shown = [task for task in tasks if found[task.name]]
    names = {along: f"{output.stem}_{word}.svg" for along, word in (("seconds", "time"), ("evaluated", "candidates"))}
    output.parent.mkdir(parents=True, exist_ok=True)
    for along, name in names.items():
        (output.parent / name).write_text(figure(shown, methods, found, along=along), encoding="utf-8")
    parts = [
        "# Searches compared",
        _head(stored, shown, seeds),
        note,
        f"![Hypervolume against seconds]({names['seconds']})",
        f"![Hypervolume against evaluated candidates]({names['evaluated']})",
        "Lines are medians over the seeds, bands go from the worst to the best of them.",
        "## Targets",
        _targets(shown, methods, found),
    ]
    for task in shown:
        parts += [f"## {task.title}", *_section(task, methods, found[task.name], stored[task.name])]
    output.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def _head(stored: Mapping[str, Mapping[str, Sequence[Any]]], tasks: Sequence[Task], seeds: Sequence[int]) -> str:
    every = [run["environment"] for runs in stored.values() for of_method in runs.values() for run in of_method]
    versions = [
        f"{name} {', '.join(sorted({e[name] for e in every if name in e}))}"
        for name in dict.fromkeys(name for e in every for name in e if name not in ("cpu", "threads", "jobs"))
    ]
    cpus = ", ".join(sorted({e["cpu"] for e in every})) or "no machine"
    threads, jobs = (" or ".join(sorted({e[key] for e in every})) for key in ("threads", "jobs"))
    return _HEAD.format(
        cpus=cpus,
        threads=threads,
        jobs=jobs,
        versions="; ".join(versions),
        seeds=", ".join(map(str, seeds)),
        members=MEMBERS,
        samples=TEST_SAMPLES,
    )


_HEAD = """\
Made by `python -m tests.benchmarks.peers` on {cpus}, {threads} thread for every method, {jobs} run(s) at a time;
{versions}. Seeds {seeds}; a ladder, which has no seed, runs once.

Every method gets the same dense model, data, importance of channels, evaluators and recovery: our `repair`, peers' cuts
too, so that what the search adds is told apart from what the repair does; *ours, norms recalibrated* is without it. The
importance is L1; peers that rank by their own are named, and *ours, as it comes* is our search with its default
scorers, of which it measures which one ranks a group best. A network's multiply-accumulates come from PyTorch's counter
or, with ours, from exact arithmetic that agrees with it. Time zero: model and data are in memory, every image is
decoded, and the method has run once on a toy net, so that imports and first calls are nobody's cost; nothing is traced.
From there all counts: tracing, copying, scoring, profiles, recovery, evaluation, saving, the sampler. Which layers
Torch-Pruning can cut is found by trying, before the clock starts. Our search may give a candidate up early and measure
in bfloat16. All others measure every candidate to the end, in float32, and so is every front on the test split. Our
engine, with random search and the ladder, too, folds the batch norms of networks above five million
multiply-accumulates before it evaluates them, but not for the test split. What methods are measured by gets images with
their channels last, which is faster; what FastNAS scores by itself does not.

*Candidates* are networks that were evaluated (with our engine the dense one, too); what a profile evaluates, ours or a
peer's, is no candidate, but in the seconds and images. *Images* are samples that went forward through a network, in
recovery and in each step of an attack too. *Hypervolume* is of accuracy × MACs left (× robust accuracy) on the
validation split, against the task's reference point; *on test* that of at most {members} members of the front, spread
along the MACs, measured on at most {samples} test samples (not in the time). What runs on our engine has members of its
front repaired again at the end by more samples, which is in the time and in *on test*, not in *hypervolume*. Numbers
are medians over the seeds [smallest – largest]."""


def _targets(tasks: Sequence[Task], methods: Sequence[Method], found: Mapping[str, Found]) -> str:
    head = (
        "task", "our scorer", "hand-built's hypervolume in ≤ 1/10 of its time", "random's in ≤ 20 candidates",
        "above every peer at equal time", "above the best ladder, every seed",
    )  # fmt: skip
    rows = []
    for task in tasks:
        for method in (method for method in methods if method.kind == "ours" and method.judged):
            runs = found[task.name]
            ours = runs.get(method.name)
            cells = _targets_of(ours, runs, methods) if ours else ["not run"] * 4
            rows.append([task.title, method.title.removeprefix("ours, "), *cells])
    return _table(head, rows)


def _targets_of(ours: Runs, runs: Found, methods: Sequence[Method]) -> list[str]:
    cells = []
    hand = _best(runs, methods, "hand")
    if hand is None:
        cells.append("—")
    else:
        _, needed = ours.to_reach(hand.final)
        share = needed["seconds"] / hand.seconds
        cells.append(
            _verdict(share <= 0.1, f"{_seconds(needed['seconds'])} of {_seconds(hand.seconds)}, {_share(share)}")
        )
    random = _best(runs, methods, "random")
    if random is None:
        cells.append("—")
    else:
        _, needed = ours.to_reach(random.final)
        text = "never" if math.isinf(needed["evaluated"]) else f"{needed['evaluated']:.0f}"
        cells.append(_verdict(needed["evaluated"] <= 20, text))
    others = [of for name, of in runs.items() if _kind(methods, name) != "ours"]
    start = leads_from(ours, others) if others else None
    margin = ours.final - max((of.final for of in others), default=0.0)
    text = f"at the end {margin:+.3f}" if start is None else f"from {_seconds(start)} on, at the end by {margin:+.3f}"
    if others and start is None and (before := leads_from(ours, others, until=ours.seconds)) is not None:
        text = f"from {_seconds(before)} until it ended at {_seconds(ours.seconds)}; others went on, {text}"
    cells.append(_verdict(start is not None, text) if others else "—")
    ladder = max((of.final for name, of in runs.items() if _kind(methods, name) == "ladder"), default=None)
    if ladder is None:
        cells.append("—")
    else:
        above = sum(final > ladder for final in ours.finals)
        text = f"{above} of {len(ours.finals)}, worst by {min(ours.finals) - ladder:+.3f}"
        cells.append(_verdict(above == len(ours.finals), text))
    return cells


def _section(
    task: Task, methods: Sequence[Method], runs: Found, stored: Mapping[str, Sequence[dict[str, Any]]]
) -> list[str]:
    reference = ", ".join(f"{name} {value:g}" for name, value in task.reference.items())
    settings = [text for text in task.overrides if text.startswith(("strategy", "evaluators"))]
    spec = f"`{task.spec.name}` with " + ", ".join(f"`{text}`" for text in settings)
    budgets = "; ".join(f"{kind} {count}" for kind, count in task.budgets.items())
    return [
        f"{spec}; ratios from 0 to 0.9. Reference point: {reference}. Candidates allowed: {budgets}.",
        _results(methods, runs, stored),
        _reached(methods, runs),
        _equal_time(methods, runs),
        _ladders(methods, runs),
        _notes(methods, stored),
    ]


def _results(methods: Sequence[Method], runs: Found, stored: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    head = ("method", "runs", "candidates", "seconds", "images", "hypervolume", "on test")
    rows = []
    for method in methods:
        of = runs.get(method.name)
        if of is None:
            rows.append([method.title, _why_not(method, stored[method.name]), *[""] * 5])
            continue
        images = median(float(run.images[-1]) for run in of.runs)
        rows.append(
            [
                method.title,
                str(len(of.runs)),
                f"{median(float(run.evaluated[-1]) for run in of.runs):.0f}",
                _seconds(of.seconds).removesuffix(" s"),
                f"{images / 1000:.0f} k",
                _spread(of.finals),
                _spread([run.test for run in of.runs]),
            ]
        )
    return _table(head, rows)


def _reached(methods: Sequence[Method], runs: Found) -> str:
    goals = [
        (f"{word} ({goal.final:.3f})", goal.final)
        for word, goal in (
            ("hand-built's hypervolume", _best(runs, methods, "hand")),
            ("random search's", _best(runs, methods, "random")),
        )
        if goal is not None
    ]
    rows = []
    for method in methods:
        if method.name not in runs:
            continue
        row = [method.title]
        for _, volume in goals:
            reached, needed = runs[method.name].to_reach(volume)
            if math.isinf(needed["seconds"]):
                row.append(f"{reached} of {len(runs[method.name].runs)} runs")
            else:
                images = f"{needed['images'] / 1000:.0f} k images"
                row.append(f"{_seconds(needed['seconds'])}, {needed['evaluated']:.0f} candidates, {images}")
        rows.append(row)
    text = "What it takes to reach the median of the better hand-built study, and of random search:"
    return f"{text}\n\n{_table(('method', *(title for title, _ in goals)), rows)}" if goals else ""


def _equal_time(methods: Sequence[Method], runs: Found) -> str:
    random, ours = _best(runs, methods, "random"), runs.get("ours-best") or runs.get("ours")
    if random is None or ours is None:
        return ""
    plain = random.seconds / median(float(run.evaluated[-1]) for run in random.runs)
    times = [*(count * plain for count in PLAIN), ours.seconds]
    head = ["method", *(f"{_seconds(time)} ({count} plain)" for time, count in zip(times, PLAIN, strict=False))]
    head.append(f"{_seconds(ours.seconds)} (our end)")
    rows = [
        [method.title, *(f"{value:.3f}" for value in runs[method.name].at(np.array(times))[1])]
        for method in methods
        if method.name in runs
    ]
    text = f"Hypervolume at equal times; a plain candidate, which is one of random search, takes {_seconds(plain)}:"
    return f"{text}\n\n{_table(head, rows)}"


def _ladders(methods: Sequence[Method], runs: Found) -> str:
    ladders = {name: of.final for name, of in runs.items() if _kind(methods, name) == "ladder"}
    if not ladders:
        return ""
    best = max(ladders, key=ladders.__getitem__)
    title = next(method.title for method in methods if method.name == best)
    lines = [
        f"{method.title[0].upper()}{method.title[1:]}: "
        + ", ".join(f"{run.volumes[-1]:.3f} (seed {run.seed})" for run in runs[method.name].runs)
        for method in methods
        if method.kind == "ours" and method.name in runs
    ]
    return f"{'. '.join(lines)}. The best ladder, {title}: {ladders[best]:.3f}." if lines else ""


def _notes(methods: Sequence[Method], stored: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    lines = []
    for method in methods:
        told = dict.fromkeys(run["note"] for run in stored[method.name] if run["points"] and run["note"])
        faults = dict.fromkeys(run["error"] for run in stored[method.name] if run["points"] and run["error"])
        failed = [p["reason"] for run in stored[method.name] for p in run["points"] if p["metrics"] is None]
        text = "; ".join((*told, *(f"ended early: {fault}" for fault in faults)))
        if failed:
            text += f"; {len(failed)} candidates rejected or failed, the first: {failed[0]}"
        again = [run["hypervolume"]["again"] - run["hypervolume"]["search"] for run in stored[method.name]]
        if abs(worst := max(again, key=abs, default=0.0)) > 5e-5:
            text += f"; its members measured again, in float32: hypervolume {worst:+.4f} at most"
        if text:
            lines.append(f"- {method.title}: {text}.")
    return "\n".join(lines)


def _why_not(method: Method, stored: Sequence[dict[str, Any]]) -> str:
    if stored:
        return f"cannot: {str(stored[0]['error'])[:240]}".replace("|", "\\|")
    if method.environment is not None:
        return "not run: no environment given"
    return f"not run: {method.needs} is not installed" if method.missing else "not run"


def _best(runs: Found, methods: Sequence[Method], kind: str) -> Runs | None:
    """The runs of the best method of a kind."""
    return max((of for name, of in runs.items() if _kind(methods, name) == kind), key=lambda of: of.final, default=None)


def _kind(methods: Sequence[Method], name: str) -> str:
    return next(method.kind for method in methods if method.name == name)


def _verdict(met: bool, text: str) -> str:
    return f"{'met' if met else 'missed'}: {text}"


def _seconds(seconds: float) -> str:
    if math.isinf(seconds):
        return "never"
    return f"{seconds:.0f} s" if seconds >= 100 else f"{seconds:.3g} s"


def _share(share: float) -> str:
    return "never" if math.isinf(share) else f"{share:.3f}"


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{median(values):.3f} [{min(values):.3f} – {max(values):.3f}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
