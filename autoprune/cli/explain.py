"""``explain``: what a search would cut, and what it would cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoprune.api.printed import table
from autoprune.cli.components import needed
from autoprune.cli.options import AsJson, Overrides, PluginFiles, SpecPath
from autoprune.cli.reply import Reply

if TYPE_CHECKING:
    from rich.console import RenderableType

    from autoprune.plugin import Knob, TrialResult
    from autoprune.study.problem import Problem


def explain(
    spec: SpecPath,
    overrides: Overrides = None,
    plugins: PluginFiles = None,
    timing: Annotated[bool, typer.Option(help="Run two trials, to estimate what the search takes.")] = True,
    _json: AsJson = False,
) -> Reply:
    """Print what a search would cut, and what it takes.

    The groups, what stays whole and why, what else is chosen, and an estimate of the time.
    """
    from autoprune.host.binding import load_spec
    from autoprune.host.plugins import PluginHost

    host = PluginHost()
    checked = load_spec(spec, overrides=overrides or (), host=host, plugins=plugins or ())
    from autoprune.study.resolution import resolve  # torch, which a wrong spec need not wait for

    problem = resolve(checked, host)
    document: dict[str, Any] = {
        "spec": str(spec),
        "device": str(problem.device),
        "task": problem.components.task.reference(),
        "samples": {name: len(problem.data.split(name)) for name in ("train", "validation", "test")},
        "form": problem.structure.form,
        "sizes": problem.structure.sizes,
        "dense": asdict(problem.structure.dense_costs),
        "groups": list(_groups(problem)),
        "uncut": [{"layer": u.layer, "units": u.units, "reason": u.reason} for u in problem.structure.uncut],
        "knobs": [_knob(knob) for knob in problem.space.knobs],
        "metrics": [
            {
                "name": metric.name,
                "unit": metric.unit,
                "cost": metric.cost.name.lower(),
                "needs": needed(type(evaluator)),
                "role": _role(problem, metric.name),
            }
            for evaluator in problem.components.evaluators
            for metric in evaluator.produces(problem.data)
        ],
        "trials": problem.spec.search.trials,
        "estimate": _estimate(problem) if timing else None,
    }
    return Reply(document, tuple(_texts(document)))


def _groups(problem: Problem) -> Iterator[dict[str, Any]]:
    structure = problem.structure
    dense = structure.dense_costs
    for bounded in problem.space.groups:
        group = bounded.group
        fewest, most = bounded.cuts
        # The last unit cannot go, so a group is worth what all but one cost, scaled up to all.
        gone = (group.units - 1) // group.step * group.step
        least = structure.costs({group.name: gone}, group.layers[1:] if group.owned else ())
        scale = group.units / max(gone, 1)
        yield {
            "name": group.name,
            "granularity": group.granularity,
            "units": group.units,
            "layers": list(group.layers),
            "low": bounded.low,
            "high": bounded.high,
            "cut_units": [fewest, most],
            # What grows with the square of the units, as recurrent weights do, is no more than all there is.
            "params": min(round((dense.nonzero - least.nonzero) * scale), dense.nonzero),
            "macs": min(round((dense.macs - least.macs) * scale), dense.macs),
        }


def _knob(knob: Knob) -> dict[str, Any]:
    from autoprune.plugin import Choice

    return {"name": knob.name, "options": list(knob.options)} if isinstance(knob, Choice) else asdict(knob)


def _role(problem: Problem, name: str) -> str:
    spec = problem.spec
    bound = f"constraint {spec.constraints[name]}" if name in spec.constraints else ""
    return ", ".join(part for part in (spec.objectives.get(name, ""), bound) if part) or "measured only"


def _estimate(problem: Problem) -> dict[str, Any]:
    """Seconds per stage of the dense trial and of one that cuts, and of the whole search at that speed."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from autoprune.study.proposal import Proposal
    from autoprune.study.trial import Runner

    (_, dense), (_, half), _ = problem.space.first(2)
    with TemporaryDirectory(prefix="autoprune-") as folder:
        runner = Runner(problem, Path(folder))
        first = runner.run(Proposal(number=0, origin="dense", params=dense))
        second = runner.run(Proposal(number=1, origin="ladder", params=half))
    trials, workers = problem.spec.search.trials, problem.spec.search.workers
    seconds = _seconds(first) + _seconds(second)
    # Scores are computed once; every trial after these two takes what cutting took without them.
    seconds += max(trials - 2, 0) * (_seconds(second) - second.durations_s.get("score", 0.0)) / workers
    return {
        "dense_s": first.durations_s,
        "pruned_s": second.durations_s,
        "dense_s_per_1000": dict(_per_1000(problem, first)),
        "search_s": seconds,
        "failures": [trial.reason for trial in (first, second) if trial.state == "failed"],
    }


def _per_1000(problem: Problem, dense: TrialResult) -> Iterator[tuple[str, float]]:
    """Evaluators that measure samples, by the names of their stages, and the seconds that 1,000 of those take them."""
    for evaluator in problem.evaluators:
        stage = evaluator.metric_name(evaluator.name)
        samples = [
            dense.metrics[metric.name].samples or 0
            for metric in evaluator.produces(problem.data)
            if not metric.is_cost and metric.name in dense.metrics
        ]
        if stage in dense.durations_s and any(samples):
            yield stage, 1000 * dense.durations_s[stage] / max(samples)


def _seconds(trial: TrialResult) -> float:
    return sum(trial.durations_s.values())


def _texts(document: Mapping[str, Any]) -> Iterator[RenderableType]:
    dense, samples = document["dense"], document["samples"]
    yield f"dense model: {dense['params']:,} parameters, {dense['macs']:,} MACs, {dense['bytes']:,} bytes"
    yield f"data: {samples['train']:,} train, {samples['validation']:,} validation, {samples['test']:,} test samples"
    yield f"device: {document['device']}"
    yield f"task: {_option(document['task'])}"
    graph = "the exported graph, since the model's own code cannot run with other sizes"
    if document["sizes"]:
        shapes = (f"({', '.join('any' if size is None else str(size) for size in each)})" for each in document["sizes"])
        graph += f"; it takes inputs of shape {', '.join(shapes)}"
    yield f"pruned models: {graph if document['form'] == 'graph' else 'the modules of the model'}\n"
    groups = table("group", "#units", "ratio", "#params", "#MACs", "cut together", title="groups")
    for group in document["groups"]:
        held = (f"{group[key] / max(dense[key], 1):.1%}" for key in ("params", "macs"))
        ratio = f"{group['low']:g} to {group['high']:g}" if group["cut_units"] != [0, 0] else "kept"
        together = ", ".join(layer for layer in group["layers"] if layer != group["name"])
        groups.add_row(group["name"], f"{group['units']} {group['granularity']}s", ratio, *held, together)
    yield groups
    if document["uncut"]:
        uncut = table("layer", "#units", "why", title="stays whole")
        for each in document["uncut"]:
            uncut.add_row(each["layer"], str(each["units"]), each["reason"])
        yield uncut
    if document["knobs"]:
        knobs = table("knob", "chosen from", title="besides the ratios")
        for knob in document["knobs"]:
            knobs.add_row(knob["name"], _range(knob))
        yield knobs
    metrics = table("metric", "unit", "cost", "needs", "in the search", title="metrics")
    for metric in document["metrics"]:
        metrics.add_row(metric["name"], metric["unit"], metric["cost"], ", ".join(metric["needs"]), metric["role"])
    yield metrics
    if (estimate := document["estimate"]) is not None:
        stages = table("stage", "#dense, s", "#pruned, s", "#dense, s for 1,000 samples", title="one trial")
        for stage in dict.fromkeys([*estimate["dense_s"], *estimate["pruned_s"]]):
            times = (estimate[key].get(stage) for key in ("dense_s", "pruned_s", "dense_s_per_1000"))
            stages.add_row(stage, *("" if seconds is None else f"{seconds:.3f}" for seconds in times))
        yield stages
        yield from (f"a trial failed: {reason}" for reason in estimate["failures"])
        yield f"{document['trials']} trials take about {_duration(estimate['search_s'])}"


def _range(knob: Mapping[str, Any]) -> str:
    if "options" in knob:
        return ", ".join(knob["options"])
    kind = ", whole numbers" if knob["whole"] else ", on a log scale" if knob["log"] else ""
    return f"{knob['low']:g} to {knob['high']:g}{kind}"


def _option(reference: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key}: {value}" for key, value in reference.items() if key != "use" and value != "")
    return f"{reference['use']} ({options})" if options else str(reference["use"])


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
