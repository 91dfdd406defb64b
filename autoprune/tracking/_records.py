"""What MLflow is told about a study and its trials, as plain data within MLflow's limits."""

from __future__ import annotations

import getpass
import hashlib
import json
import math
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from autoprune.plugin.results import FrontPoint, StudyInfo, StudyOutcome, TrialResult
from autoprune.plugin.values import Measured
from autoprune.report import chosen, front_table, label, number, report_files, tested_on
from autoprune.spec.secrets import masked

MOST_KEY = 250
MOST_PARAM = 6000
MOST_TAG = 8000
_MOST_NAME = 200

# Okabe and Ito's palette, as in the report's figures.
_COLOURS = {"front": "#0072B2", "dense": "#000000", "ladder": "#E69F00", "warm-start": "#999999", "sampler": "#999999"}
_ODD_COLOURS = {"failed": "#D55E00", "rejected": "#CC79A7"}
COLOUR_KEY = (
    "Colours of the trials: blue is on the Pareto front, black the dense model, orange one ratio for all groups (the"
    " ladder), grey the sampler's other trials, red failed, pink rejected early."
)
STATUS = {"complete": "FINISHED", "failed": "FAILED", "rejected": "KILLED"}


def key(prefix: str, name: str) -> str:
    """``prefix/name``, with whatever MLflow refuses replaced and a hash to keep different names apart."""
    whole = f"{prefix}/{name}" if prefix else name
    path = posixpath.normpath(whole) == whole and not whole.startswith(("/", "."))
    if path and len(whole) <= MOST_KEY and not re.search(r"[^\w.\- /]", whole):
        return whole
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    clean = re.sub(r"^\.+|[^\w.\- ]", "_", name)[: MOST_KEY - len(prefix) - 10]
    return f"{prefix}/{clean}-{digest}" if prefix else f"{clean}-{digest}"


def milliseconds(moment: datetime) -> int:
    """Since the Unix epoch."""
    return int(moment.timestamp() * 1000)


def study_params(study: StudyInfo) -> dict[str, str]:
    """The spec, one parameter a leaf (``search.sampler.use``). Written once: parameters cannot change."""
    leaves = {}
    for path, value in _leaves(study.spec.model_dump(mode="json", exclude_none=True)):
        if path != "search.trials":  # a resumed study may ask for more
            leaves[key("", path)] = masked(str(value), whole=True)[:MOST_PARAM]
    return leaves


def study_data(study: StudyInfo) -> tuple[str, str]:
    """Name of the data, and what the spec says of it."""
    said = masked(json.dumps(study.spec.data, sort_keys=True, default=str))
    return str(study.spec.data["use"]), said


def study_tags(study: StudyInfo, mark: str) -> dict[str, str]:
    """What marks the study's run, the asked number of trials and the environment of the present session."""
    objectives = ", ".join(f"{direction} {name}" for name, direction in study.objectives.items())
    searching = f"Searching: {study.trials} trials to {objectives}."
    return {
        **_source(),
        "autoprune.role": "study",
        "autoprune.study": mark,
        "autoprune.trials": str(study.trials),
        "autoprune.objectives": objectives,
        "autoprune.folder": str(study.folder),
        "autoprune.verdict": searching,
        "mlflow.note.content": f"{searching}\n\n{COLOUR_KEY}",
        **{key("", f"env.{name}"): masked(value)[:MOST_TAG] for name, value in study.environment.items()},
    }


def study_metrics(outcome: StudyOutcome) -> dict[str, float]:
    """The study's own numbers: hypervolume, counts, the best of each objective, what members come to together."""
    states: Counter[str] = Counter(trial.state for trial in outcome.trials)
    numbers = {
        "study/hypervolume": outcome.front.hypervolume,
        "study/front_points": len(outcome.front.points),
        **{f"study/trials_{state}": states[state] for state in STATUS},
        "study/trials_infeasible": sum(t.state == "complete" and not t.feasible for t in outcome.trials),
    }
    for name, direction in outcome.front.objectives.items():
        values = [point.trial.metrics[name].value for point in outcome.front.points]
        if values:
            numbers[key("best", name)] = max(values) if direction == "maximize" else min(values)
    numbers |= {key("together", name): measured.value for name, measured in outcome.together.items()}
    return _rounded(numbers | _uncertainty(outcome.together, "together_"))


def trial_tags(study: StudyInfo, result: TrialResult, parent: str) -> dict[str, str]:
    """What marks a trial's run, and why it failed or was rejected."""
    tags = {
        **_source(),
        "mlflow.parentRunId": parent,
        "autoprune.role": "trial",
        "autoprune.trial": str(result.number),
        "autoprune.state": result.state,
        "autoprune.origin": result.origin,
        "autoprune.feasible": _bool(result.feasible),
    }
    if result.reason:
        tags["autoprune.reason"] = masked(result.reason)[:MOST_TAG]
    broken = [f"{name} {study.constraints.get(name, '')}" for name, by in result.violations.items() if by > 0]
    if broken:
        tags["autoprune.broken"] = ", ".join(broken)[:MOST_TAG]
    return tags


def trial_name(study: StudyInfo, result: TrialResult) -> str:
    """What a list of runs shows: ``trial 23 · accuracy 98.1 % · macs 108.3 k``, or what became of it."""
    parts = [f"trial {result.number}"]
    if result.origin == "dense":
        parts.append("dense")
    if result.state != "complete":
        return " · ".join([*parts, result.state])
    for name in study.objectives:
        if name in result.metrics:
            unit = study.units.get(name, "")
            parts.append(f"{label(name, unit)} {number(result.metrics[name].value, unit)}")
    return " · ".join(parts)[:_MOST_NAME]


def standing(result: TrialResult, *, on_front: bool, sentence: str = "", opening: str = "") -> dict[str, str]:
    """The tags that change with the front: membership, colour and note, with how the model is opened."""
    if result.state == "failed":
        lead = f"**Failed:** {result.reason or 'no reason was given'}"
    elif result.state == "rejected":
        lead = f"**Rejected:** {result.reason or 'no reason was given'}"
    elif not result.feasible:
        lead = "Breaks a constraint."
    elif on_front:
        lead = f"**On the Pareto front.** {sentence}".strip()
    else:
        lead = "Dominated."
    achieved = result.achieved.values()
    mean = f"{100 * sum(achieved) / len(achieved):.1f} %" if achieved else "none"
    again = f" {result.reason[:300]}." if result.reason and result.state == "complete" else ""
    how = f"Units cut, mean over the groups: {mean}. Scorer {result.scorer}, strategy {result.strategy}.{again}"
    # The dense model stays recognisable, on the front or off it.
    kind = "front" if on_front and result.origin != "dense" else result.origin
    return {
        "autoprune.front": _bool(on_front),
        # Of the study's two views the smaller one that has it: MLflow's filters know no "or".
        "autoprune.shown": "front" if on_front or (result.origin, result.state) == ("dense", "complete") else "all",
        "mlflow.runColor": _ODD_COLOURS.get(result.state, _COLOURS[kind]),
        "mlflow.note.content": masked("\n\n".join(filter(None, (lead[: MOST_TAG - 3000], opening[:2000], how[:800])))),
    }


def trial_params(result: TrialResult) -> dict[str, str]:
    """What the trial is, in the order in which its page shows it.

    Scorer, strategy, precision, seed, what else was chosen (``knob/<name>``), the asked ratios (``ratio/<group>``),
    what they came to in whole units (``achieved/<group>``) and how long each stage took (``seconds/<stage>``).
    """
    params = {"scorer": result.scorer, "strategy": result.strategy, "precision": result.precision}
    params["seed"] = str(result.seed)
    seconds = {**result.durations_s, "total": (result.finished - result.started).total_seconds()}
    sections = {"ratio": result.ratios, "achieved": result.achieved, "seconds": seconds}
    params.update({key("knob", name): chosen(value) for name, value in result.knobs.items()})
    for section, named in sections.items():
        params.update({key(section, name): f"{value:.6g}" for name, value in named.items()})
    return {name: value[:MOST_PARAM] for name, value in params.items() if value}


def trial_metrics(study: StudyInfo, result: TrialResult) -> dict[str, float]:
    """What was measured, in sections, which the charts page shows apart; the page of the run keeps their order.

    ``objective/``, ``other/`` (costs first), ``violation/``, ``uncertainty/…_low`` and ``…_high``, and
    ``versus_dense/``. What a rejected trial was known by is ``partial/``: it was not measured on all samples.
    """
    if result.state != "complete":
        values = {key("partial", name): measured.value for name, measured in result.metrics.items()}
        return _rounded(values | _uncertainty(result.metrics, "partial_"))
    objectives = [name for name in study.objectives if name in result.metrics]
    others = sorted((name for name in result.metrics if name not in objectives), key=lambda n: n not in study.costs)
    values = {key("objective", name): result.metrics[name].value for name in objectives}
    values |= {key("other", name): result.metrics[name].value for name in others}
    values |= {key("violation", name): by for name, by in result.violations.items()}
    return _rounded(values | _uncertainty(result.metrics))


def member_metrics(point: FrontPoint) -> dict[str, float]:
    """What was measured of a member of the front since the trials were done, and its uncertainty.

    ``refined/…`` on the validation split, of a model that was made again; ``test/…`` on the test split or on a part of
    it that is the same for all, and ``whole_test/…`` on all of it then.
    """
    sections = {"test": point.test, "whole_test": point.whole_test}
    if point.searched:
        sections["refined"] = point.trial.metrics
    values: dict[str, float] = {}
    for section, metrics in sections.items():
        values |= {key(section, name): measured.value for name, measured in metrics.items()}
        values |= _uncertainty(metrics, f"{section}_")
    return _rounded(values)


def artifacts(study: StudyInfo, outcome: StudyOutcome) -> dict[str, str]:
    """Files of the study's run: the spec, the report, and the front as a table that MLflow shows."""
    files = {"spec.yaml": study.spec_text, **report_files(study, outcome)}
    if rows := front_table(outcome):
        # What log_table writes; itself it would append to the table of an earlier session.
        cells = [[float(f"{c:.5g}") if isinstance(c, float) else c for c in row.values()] for row in rows]
        files["front_table.json"] = json.dumps({"columns": list(rows[0]), "data": cells})
    return files


def since_the_trials(study: StudyInfo, outcome: StudyOutcome, point: FrontPoint) -> str:
    """What was done with a member of the front, in words."""
    told = []
    if point.searched:
        changes = [
            f"{label(name, unit)} {number(was.value, unit)} to {number(now.value, unit)}"
            for name, unit in ((name, study.units.get(name, "")) for name in outcome.front.objectives)
            if (was := point.searched.get(name)) != (now := point.trial.metrics[name]) and was is not None
        ]
        told.append(
            "Made again by its strategy's final version, such as a larger repair, once the trials were done"
            f" (validation split: {', '.join(changes) or 'the same objectives'}); `objective/…` is what the search had"
            " measured, `refined/…` what the model has now."
        )
    if point.test and outcome.test_part is not None:
        told.append(f"`test/…` is of {tested_on(outcome)}.")
    return " ".join(told)


def _uncertainty(metrics: Mapping[str, Measured], prefix: str = "") -> dict[str, float]:
    ends = {}
    for name, measured in metrics.items():
        for end, value in (("low", measured.low), ("high", measured.high)):
            if value is not None:
                ends[key("uncertainty", f"{prefix}{name}_{end}")] = value
        if (difference := measured.difference) is not None:
            ends[key("versus_dense", f"{prefix}{name}")] = difference.value
            for end, value in (("low", difference.low), ("high", difference.high)):
                if value is not None:
                    ends[key("versus_dense", f"{prefix}{name}_{end}")] = value
    return ends


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    """To six significant digits, whole numbers apart: MLflow shows every digit that it is given.

    NaN is refused by some stores, and an infinity ruins the axes of MLflow's charts.
    """
    finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
    return {name: value if value.is_integer() else float(f"{value:.6g}") for name, value in finite.items()}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{path}.{place}")
    elif value not in ("", [], {}):
        yield path, value


def _source() -> dict[str, str]:
    tags = {"mlflow.source.name": "autoprune", "mlflow.source.type": "LOCAL"}
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for the user
        return tags
    return tags


def _bool(value: bool) -> str:
    return "true" if value else "false"
