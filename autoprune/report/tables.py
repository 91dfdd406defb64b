"""A study's front and trials as flat rows, one value a cell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean

from autoprune.plugin.results import FrontPoint, StudyInfo, StudyOutcome, TrialResult
from autoprune.plugin.values import Measured
from autoprune.report._words import dense_trial, heading, knob_names, metric_names, number, tested_on

Cell = str | float | int | bool | None
Row = dict[str, Cell]


def front_table(outcome: StudyOutcome) -> list[Row]:
    """The dense model, for comparison, then the members of the front.

    Columns: ``trial``, ``origin``, ``on_front``, ``mean_ratio`` (achieved), then per metric ``name``, ``name_low``,
    ``name_high`` on the validation split and the same behind ``searched_`` (of members that were made again, what the
    search had measured), ``test_`` and ``whole_test_`` (where ``test_`` is of a part of the split), last ``scorer``,
    ``strategy``, ``precision``, ``knob/<name>`` (what else was chosen) and ``model``. All rows have the same columns;
    what was not measured is None.
    """
    members = {point.trial.number for point in outcome.front.points}
    points = compared_models(outcome)
    trials = [point.trial for point in points]
    measured = [trial.metrics for trial in trials] + [point.test for point in outcome.front.points]
    names, knobs = metric_names(outcome.front.objectives, measured), knob_names(trials)
    rows: list[Row] = []
    for point in points:
        trial = point.trial
        rows.append(
            {
                "trial": trial.number,
                "origin": trial.origin,
                "on_front": trial.number in members,
                "mean_ratio": mean_ratio(trial),
                **_cells(names, trial.metrics),
                **_cells(names, point.searched, "searched_"),
                **_cells(names, point.test, "test_"),
                **_cells(names, point.whole_test, "whole_test_"),
                "scorer": trial.scorer,
                "strategy": trial.strategy,
                "precision": trial.precision,
                **_chosen(knobs, trial),
                "model": str(trial.model) if trial.model else None,
            }
        )
    return _without_empty_intervals(rows)


def compared_models(outcome: StudyOutcome) -> list[FrontPoint]:
    """The dense model, on the front or not, then the members of the front."""
    points, dense = list(outcome.front.points), dense_trial(outcome)
    if dense is None:
        return points
    member = next((point for point in points if point.trial.number == dense.number), FrontPoint(trial=dense))
    # What was measured of the dense model does not hang on the front.
    test, whole = outcome.dense_test or member.test, outcome.dense_whole_test or member.whole_test
    first = member.model_copy(update={"test": dict(test), "whole_test": dict(whole)})
    return [first, *(point for point in points if point is not member)]


def front_summary(study: StudyInfo, outcome: StudyOutcome) -> tuple[list[str], list[list[str]]]:
    """The dense model and the front for a reader, validation beside test: titles, and a row of texts per model."""
    units = {name: study.units[name] for name in outcome.front.objectives}
    test = f", {tested_on(outcome).removesuffix(' split')}"
    titles = ["trial", "", *(f"{heading(n, u)}{where}" for n, u in units.items() for where in ("", test)), "cut"]
    rows = []
    for row in front_table(outcome):
        cells = [(row.get(key), unit) for name, unit in units.items() for key in (name, f"test_{name}")]
        values = ["" if value is None else number(float(value), unit) for value, unit in cells]
        rows.append([str(row["trial"]), str(row["origin"]), *values, f"{row['mean_ratio']:.0%}"])
    return titles, rows


def trials_table(outcome: StudyOutcome) -> list[Row]:
    """Every trial in the order of their numbers.

    With its asked (``ratio/…``) and achieved (``achieved/…``) ratios and what else was chosen (``knob/…``).
    """
    members = {point.trial.number for point in outcome.front.points}
    trials = sorted(outcome.trials, key=lambda t: t.number)
    names = metric_names(outcome.front.objectives, [trial.metrics for trial in trials])
    groups, knobs = list(dict.fromkeys(group for trial in trials for group in trial.ratios)), knob_names(trials)
    rows: list[Row] = [
        {
            "trial": trial.number,
            "state": trial.state,
            "origin": trial.origin,
            "feasible": trial.feasible,
            "on_front": trial.number in members,
            "reason": trial.reason,
            "scorer": trial.scorer,
            "strategy": trial.strategy,
            "precision": trial.precision,
            "seed": trial.seed,
            "started": trial.started.isoformat(),
            "finished": trial.finished.isoformat(),
            "seconds": (trial.finished - trial.started).total_seconds(),
            **_cells(names, trial.metrics),
            **{f"ratio/{group}": _finite(trial.ratios.get(group)) for group in groups},
            **{f"achieved/{group}": _finite(trial.achieved.get(group)) for group in groups},
            **_chosen(knobs, trial),
        }
        for trial in trials
    ]
    return _without_empty_intervals(rows)


def mean_ratio(trial: TrialResult) -> float:
    """Mean over the groups of the achieved ratio."""
    return fmean(trial.achieved.values()) if trial.achieved else 0.0


def _chosen(knobs: list[str], trial: TrialResult) -> Row:
    return {f"knob/{name}": trial.knobs.get(name) for name in knobs}


def _cells(names: list[str], metrics: Mapping[str, Measured], prefix: str = "") -> Row:
    row: Row = {}
    for name in names:
        measured = metrics.get(name)
        row[f"{prefix}{name}"] = _finite(measured.value if measured else None)
        row[f"{prefix}{name}_low"] = _finite(measured.low if measured else None)
        row[f"{prefix}{name}_high"] = _finite(measured.high if measured else None)
    return row


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _without_empty_intervals(rows: list[Row]) -> list[Row]:
    """Drop the columns of intervals and of other measurements that no row fills; exact metrics have no interval."""
    empty = {
        column
        for column in (rows[0] if rows else {})
        if column.endswith(("_low", "_high")) or column.startswith(("searched_", "test_", "whole_test_"))
        if all(row[column] is None for row in rows)
    }
    return [{column: cell for column, cell in row.items() if column not in empty} for row in rows]
