"""What the script of the report's page draws, as plain data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from autoprune.errors import StructureError
from autoprune.host.plugins import PluginHost
from autoprune.plugin.results import FrontPoint, GroupSummary, StudyInfo, StudyOutcome, TrialResult
from autoprune.plugin.values import Measured
from autoprune.plugin.volume import volumes
from autoprune.report._words import bound_of, chosen, dense_trial, label, metric_names, tested_on
from autoprune.report.picks import named_member
from autoprune.report.tables import compared_models, mean_ratio
from autoprune.report.text import point_verdict

Json = dict[str, Any]


def page_data(study: StudyInfo, outcome: StudyOutcome) -> Json:
    """The complete trials, the front and the dense model, metrics and groups by their places in two lists."""
    members = {point.trial.number: point for point in outcome.front.points}
    trials = [members[t.number].trial if t.number in members else t for t in outcome.trials if t.state == "complete"]
    others = [point.test for point in members.values()]
    names = metric_names(outcome.front.objectives, [trial.metrics for trial in trials] + others)
    dense, pick, points = dense_trial(outcome), named_member(study, outcome), compared_models(outcome)
    host = PluginHost()
    alike = outcome.front.model_copy(update={"points": tuple(points)}).alike()
    return {
        "metrics": [
            {
                "name": name,
                "label": label(name, study.units.get(name, "")),
                "unit": study.units.get(name, ""),
                "direction": outcome.front.objectives.get(name),
                "bound": bound_of(study, outcome, name),
            }
            for name in names
        ],
        "groups": [_group(group) for group in study.groups],
        "trials": [_trial(trial, names, study.groups) for trial in sorted(trials, key=lambda t: t.number)],
        "points": [
            _point(study, outcome, point, names)
            | {
                "alike": [number for number in alike[point.trial.number] if number in members],
                "code": _code(point, host),
            }
            for point in points
        ],
        "front": list(members),
        "dense": None if dense is None else dense.number,
        "pick": None if pick is None else pick.trial.number,
        "volumes": [
            [number, _short(volume)]
            for number, volume in volumes(outcome.trials, outcome.front.objectives, outcome.front.reference).items()
        ]
        if outcome.front.points
        else [],
        "test": tested_on(outcome),
    }


def embedded(data: Json) -> str:
    """JSON that may stand in a ``<script>`` element: nothing in it ends the element or begins another."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))  # ASCII, so no odd line ends either
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _group(group: GroupSummary) -> Json:
    searched = group.high > 0
    layers = group.layers
    return {"name": group.name, "units": group.units, "kind": group.granularity, "layers": layers, "searched": searched}


def _trial(trial: TrialResult, names: Sequence[str], groups: Sequence[GroupSummary]) -> Json:
    return {
        "number": trial.number,
        "origin": trial.origin,
        "feasible": trial.feasible,
        "metrics": _values(trial.metrics, names),
        "cut": [round(trial.achieved.get(group.name, 0.0) * group.units) for group in groups],
        "mean": _short(mean_ratio(trial)),
    }


def _point(study: StudyInfo, outcome: StudyOutcome, point: FrontPoint, names: Sequence[str]) -> Json:
    trial = point.trial
    return {
        "number": trial.number,
        "told": point_verdict(study, outcome, point) if trial.origin != "dense" else "The dense model.",
        "made": [trial.strategy, trial.scorer, trial.precision],
        "knobs": {name: chosen(value) for name, value in trial.knobs.items()},
        "validation": _values(trial.metrics, names),
        "searched": _values(point.searched, names),
        "test": _values(point.test, names),
        "whole": _values(point.whole_test, names),
    }


def _code(point: FrontPoint, host: PluginHost) -> str | None:
    """The lines that open a saved model; None where there is none."""
    from autoprune.structure.saved.opening import opening_call

    if point.trial.model is None:
        return None
    try:
        return f"import autoprune\nmodel = {opening_call(point.trial.model, host)}"
    except StructureError:
        return None


def _values(metrics: Mapping[str, Measured], names: Sequence[str]) -> list[list[float | None] | None]:
    """Per metric: value, ends of its interval, difference from the dense model and its ends, as far as there are."""
    return [_value(metrics[name]) if name in metrics else None for name in names]


def _value(measured: Measured) -> list[float | None] | None:
    apart = measured.difference
    ends = [apart.value, apart.low, apart.high] if apart else []
    values = [_short(value) for value in (measured.value, measured.low, measured.high, *ends)]
    while values and values[-1] is None:
        values.pop()
    return values if values and values[0] is not None else None


def _short(value: float | None) -> float | None:
    """To six digits, as many as anyone reads."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
