"""How metrics and their values are written."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from autoprune.plugin.results import StudyInfo, StudyOutcome, TrialResult
from autoprune.plugin.values import Difference, Measured

NO_VALUE = "-"
_SUFFIXES = {"ms": "_ms", "MB": "_mb", "fraction of dense": "_ratio"}


def label(name: str, unit: str) -> str:
    """The metric's name as a reader says it, without its unit: ``latency_ms`` is ``latency``."""
    suffix = _SUFFIXES.get(unit)
    return (name.removesuffix(suffix) if suffix else name).replace("_", " ")


def heading(name: str, unit: str) -> str:
    """The metric's name with its unit, for a column or an axis."""
    return label(name, unit) if unit in ("", "1", "fraction") else f"{label(name, unit)} ({unit})"


def percent(fraction: float) -> str:
    """``0.961`` as ``96.1 %``."""
    return f"{100 * fraction:.1f} %"


def number(value: float, unit: str) -> str:
    """The value in a table: fractions as per cent, large counts with k, M or G."""
    if not math.isfinite(value):
        return NO_VALUE
    if unit.startswith("fraction"):
        return percent(value)
    for least, size, prefix in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / size:.1f} {prefix}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def chosen(value: float | str) -> str:
    """What the search chose for a knob."""
    return value if isinstance(value, str) else f"{value:.6g}"


def spread(measured: Measured | None, unit: str) -> str:
    """The value with its interval: ``94.1 % (92.8 to 95.2)``."""
    if measured is None:
        return NO_VALUE
    text = number(measured.value, unit)
    if measured.low is None or measured.high is None:
        return text
    low, high = (number(end, unit).removesuffix(" %") for end in (measured.low, measured.high))
    return f"{text} ({low} to {high})"


def against(difference: Difference | None, unit: str) -> str:
    """How much more a model has than the dense one, with the interval: ``-1.2 (-2.0 to -0.4)``, ``≈`` if it holds 0."""
    if difference is None:
        return NO_VALUE
    ends = [end for end in (difference.low, difference.high) if end is not None]
    value, *bounds = (number(each, unit).removesuffix(" %") for each in (difference.value, *ends))
    sign = "+" if difference.value > 0 else ""
    text = f"{sign}{value} ({bounds[0]} to {bounds[1]})" if bounds else f"{sign}{value}"
    return text if difference.told_apart or not bounds else f"{text} ≈"


def tested_on(outcome: StudyOutcome) -> str:
    """What test values of the front are of: ``test split``, or ``2,000 of 10,000 test samples``."""
    if outcome.test_part is None:
        return "test split"
    samples, total = outcome.test_part
    return f"{samples:,} of {total:,} test samples"


def together(outcome: StudyOutcome) -> list[str]:
    """What all members come to together, in a sentence."""
    if not outcome.together:
        return []
    measured = [
        f"{label(name, '')} {spread(value, '')}"
        + (f", against dense {against(value.difference, '')}" if value.difference is not None else "")
        for name, value in outcome.together.items()
    ]
    count = sum(point.trial.origin != "dense" for point in outcome.front.points)
    whose = f"all {count} pruned members" if count > 1 else "the one pruned member"
    return [f"Of {whose} and the dense model together ({tested_on(outcome)}): {'; '.join(measured)}."]


def listed(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def dense_trial(outcome: StudyOutcome) -> TrialResult | None:
    """The trial of the dense model, where it completed."""
    return next((t for t in outcome.trials if t.origin == "dense" and t.state == "complete"), None)


def bound_of(study: StudyInfo, outcome: StudyOutcome, name: str) -> float | None:
    """A constraint's number; None where there is none, or it hangs on a dense model that was not measured."""
    bound = study.spec.constraints.get(name)
    if bound is None or not bound.of_dense:
        return bound.value if bound else None
    dense = (t.metrics[name].value for t in outcome.trials if t.origin == "dense" and name in t.metrics)
    return next((bound.at(value).value for value in dense), None)


def metric_names(objectives: Iterable[str], measured: Iterable[Mapping[str, Measured]]) -> list[str]:
    """The objectives first, then every other metric in the order it first appears."""
    names = dict.fromkeys(objectives)
    for metrics in measured:
        names.update(dict.fromkeys(metrics))
    return list(names)


def knob_names(trials: Iterable[TrialResult]) -> list[str]:
    """What was chosen besides ratios, in the order it first appears."""
    return list(dict.fromkeys(name for trial in trials for name in trial.knobs))


def searched_groups(study: StudyInfo) -> list[str]:
    """The groups whose ratio was searched, in the order of the network."""
    return [group.name for group in study.groups if group.high > 0]


def reasons(trials: Iterable[TrialResult]) -> list[tuple[str, list[int]]]:
    """Reasons that differ in numbers alone are one, as the first trial has it; those of most trials first."""
    alike: dict[str, list[TrialResult]] = defaultdict(list)
    for trial in sorted(trials, key=lambda each: each.number):
        alike[re.sub(r"[-+]?\d[\d.,e+-]*", "…", trial.reason or "")].append(trial)
    found = [(some[0].reason or "no reason is known", [trial.number for trial in some]) for some in alike.values()]
    return sorted(found, key=lambda each: -len(each[1]))
