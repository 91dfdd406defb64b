"""What a study found, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from autoprune.plugin.results import FrontPoint, StudyInfo, StudyOutcome, TrialResult
from autoprune.plugin.values import Difference, Measured
from autoprune.report._words import (
    NO_VALUE,
    against,
    chosen,
    dense_trial,
    heading,
    knob_names,
    label,
    listed,
    metric_names,
    number,
    percent,
    searched_groups,
    spread,
    tested_on,
    together,
)
from autoprune.report.picks import RULES, Pick, difference_from_dense, named_member, picks, share_of_dense
from autoprune.report.tables import compared_models, mean_ratio

_MOST_REASONS = 20
_MOST_COLUMNS = 12
_MOST_ALIKE = 6


def verdict(study: StudyInfo, outcome: StudyOutcome) -> str:
    """One sentence: what the front's best compromise keeps of the dense model, and at what cost.

    The compromise is the cheapest member that keeps 95 % of the dense model on every maximised objective; where there
    is none, the member that keeps most. Cheap is a small geometric mean of the minimised objectives.
    """
    if named := named_member(study, outcome):
        return point_verdict(study, outcome, named)
    if outcome.front.points:
        tried = [trial for trial in outcome.trials if trial.origin != "dense"]
        if tried and all(trial.state == "failed" for trial in tried):
            return f"No pruned model came through: {len(tried)} of {len(tried)} failed."
        return "No pruned model beats the dense one: it is the front's only member."
    states = Counter(trial.state for trial in outcome.trials)
    infeasible = sum(1 for trial in outcome.trials if trial.state == "complete" and not trial.feasible)
    why = [f"{states['failed']} failed"] if states["failed"] else []
    why += [f"{states['rejected']} rejected"] if states["rejected"] else []
    why += [f"{infeasible} broke a constraint"] if infeasible else []
    return f"No feasible trial among {len(outcome.trials)}" + (f": {listed(why)}." if why else ".")


def point_verdict(study: StudyInfo, outcome: StudyOutcome, point: FrontPoint) -> str:
    """One sentence on one member of the front, on the test split where both it and the dense model were measured.

    Both on all of it if they were; else on the part of it that both were measured on.
    """
    dense = dense_trial(outcome)
    dense_test = outcome.dense_test or _test_of(dense, outcome)
    measured, where = point.trial.metrics, "validation split"
    reference: Mapping[str, Measured] = dense.metrics if dense else {}
    if point.whole_test and (outcome.dense_whole_test or dense is None):
        measured, reference, where = point.whole_test, outcome.dense_whole_test, "test split"
    elif point.test and (dense_test or dense is None):
        measured, reference, where = point.test, dense_test, tested_on(outcome)
    kept: list[str] = []
    paid: list[str] = []
    for name, direction in outcome.front.objectives.items():
        unit = study.units.get(name, "")
        if name not in measured:
            continue
        share = share_of_dense(study, name, measured, reference)
        if share is None:
            paid.append(f"{label(name, unit)} {number(measured[name].value, unit)}")
        elif direction == "maximize":
            kept.append(f"{percent(share)} of {_whose(kept, paid)} {label(name, unit)}")
        else:
            paid.append(f"{percent(share)} of {_whose(kept, paid)} {label(name, unit)}")
    text = f"Trial {point.trial.number}"
    if kept:
        text += f" keeps {listed(kept)}"
    if paid:
        text += f" {'at' if kept else 'has'} {listed(paid)}"
    return f"{text} ({where})."


def markdown(study: StudyInfo, outcome: StudyOutcome) -> str:
    """The whole report, verdict first; its figures are ``front.svg`` and ``ratios.svg`` beside it."""
    sections = [
        f"# {study.name}",
        f"**{verdict(study, outcome)}**",
        picked_markdown(study, outcome),
        _summary(study, outcome),
        *_front(study, outcome),
        *_ratios(study, outcome),
        *_knobs(outcome),
        *_unfinished(outcome),
        "## Environment",
        _table(["", ""], [[key, value] for key, value in study.environment.items()]),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def picked(study: StudyInfo, outcome: StudyOutcome) -> list[tuple[str, str]]:
    """The members that are worth a look: what each is, and a sentence on why and on what is known of it."""
    return [(listed(pick.names), _told_of(study, outcome, pick)) for pick in picks(study, outcome)]


def picked_markdown(study: StudyInfo, outcome: StudyOutcome) -> str:
    """The same as a list; nothing where the front has no pruned model."""
    return "\n".join(f"- **{name.capitalize()}**, {told}" for name, told in picked(study, outcome))


def _told_of(study: StudyInfo, outcome: StudyOutcome, pick: Pick) -> str:
    apart = []
    for name in outcome.front.objectives:
        difference = None if name in study.costs else difference_from_dense(outcome, pick.point, name)
        if difference is not None and difference.low is not None:
            unit = study.units.get(name, "")
            surely = "" if difference.told_apart else ", not distinguishable from it"
            value = against(difference, unit).removesuffix(" ≈")
            apart.append(f"{label(name, unit)} {value} against the dense model's{surely}")
    told = "; ".join(apart)
    rules = "; ".join(RULES[name] for name in pick.names)
    sentence = f"{rules}: {point_verdict(study, outcome, pick.point)}"
    return f"{sentence} {told[0].upper()}{told[1:]}." if told else sentence


def _test_of(trial: TrialResult | None, outcome: StudyOutcome) -> Mapping[str, Measured]:
    return next((p.test for p in outcome.front.points if trial and p.trial.number == trial.number), {})


def _whose(kept: list[str], paid: list[str]) -> str:
    return "its" if kept or paid else "the dense model's"


def _summary(study: StudyInfo, outcome: StudyOutcome) -> str:
    states = Counter(trial.state for trial in outcome.trials)
    counts = ", ".join(f"{states[s]} {s}" for s in ("complete", "failed", "rejected") if states[s])
    lines = [f"{len(outcome.trials)} of {study.trials} trials: {counts or 'none'}."]
    if outcome.interrupted:
        lines.append("The search was interrupted; resume it to run the rest.")
    front = outcome.front
    if front.points:
        reference = ", ".join(
            f"{heading(name, study.units.get(name, ''))} {number(value, study.units.get(name, ''))}"
            for name, value in front.reference.items()
        )
        size = f"{len(front.points)} point{'s' if len(front.points) > 1 else ''}"
        lines.append(f"The front has {size} and hypervolume {front.hypervolume:.4g} (reference: {reference}).")
    if study.constraints:
        bounds = ", ".join(f"{name} {bound}" for name, bound in study.constraints.items())
        lines.append(f"Constraints: {bounds}.")
    return " ".join(lines)


def _front(study: StudyInfo, outcome: StudyOutcome) -> list[str]:
    points = outcome.front.points
    if not points:
        return []
    entries = [
        (f"{p.trial.number} (dense)" if p.trial.origin == "dense" else f"{p.trial.number}", p)
        for p in compared_models(outcome)
    ]
    values: list[tuple[str, Callable[[FrontPoint], Mapping[str, Measured]]]] = [
        ("", lambda point: point.trial.metrics),
        (", searched", lambda point: point.searched),
        (", test", lambda point: point.test),
        (", whole test", lambda point: point.whole_test),
    ]
    others = [n for n in metric_names((), [p.trial.metrics for p in points]) if n not in outcome.front.objectives]
    alone = [n for n in metric_names((), [p.test for p in points]) if n not in {*outcome.front.objectives, *others}]
    columns = [
        (name, f"{heading(name, study.units.get(name, ''))}{told}", of)
        for name in outcome.front.objectives
        for told, of in values
        if not told or any(name in of(point) for _, point in entries)
    ]
    columns += [(name, heading(name, study.units.get(name, "")), values[0][1]) for name in others]
    columns += [(name, f"{heading(name, study.units.get(name, ''))}, test", values[2][1]) for name in alone]
    compared = [
        name for name in outcome.front.objectives if any(_difference(point, name) is not None for _, point in entries)
    ]
    alike = outcome.front.alike()
    rows = [
        [
            title,
            *(spread(of(point).get(name), study.units.get(name, "")) for name, _, of in columns),
            *(against(_difference(point, name), study.units.get(name, "")) for name in compared),
            *([_numbers(alike.get(point.trial.number, ()))] if any(alike.values()) else ()),
            percent(mean_ratio(point.trial)),
        ]
        for title, point in entries
    ]
    differences = [f"{heading(name, study.units.get(name, ''))}, against dense" for name in compared]
    like = ["alike"] if any(alike.values()) else []
    table = _table(["trial", *(title for _, title, _ in columns), *differences, *like, "mean ratio"], rows)
    told = _columns_told(outcome)
    if like:
        told.append(
            "*Alike* are members that no objective with an interval tells apart from this one; what is exact, such as"
            " MACs, differs."
        )
    if compared:
        told.append(
            "*Against dense* is the difference from the dense model on the same samples, of the test split where the"
            " model was measured on it; ≈ where chance explains it."
        )
    return ["## Front", table, " ".join(told), *together(outcome), "![The Pareto front](front.svg)"]


def _numbers(trials: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in trials[:_MOST_ALIKE])
    return f"{shown}, …" if len(trials) > _MOST_ALIKE else shown or NO_VALUE


def _difference(point: FrontPoint, name: str) -> Difference | None:
    """From the dense model, on as many samples as there are."""
    for metrics in (point.whole_test, point.test, point.trial.metrics):
        if name in metrics:
            return metrics[name].difference
    return None


def _columns_told(outcome: StudyOutcome) -> list[str]:
    """What the columns of the front are of."""
    told = ["Columns without *test* are of the validation split, which guided the search."]
    if any(point.searched for point in outcome.front.points):
        told.append(
            "Once the trials were done, members were made again by the final version of their strategy, such as a"
            " larger repair; *searched* is what the search had measured of them before."
        )
    if outcome.test_part is not None:
        told.append(f"*Test* is of {tested_on(outcome)}, the same for every model; *whole test* of all of them.")
    return [*told, "Intervals are of 95 % confidence."]


def _ratios(study: StudyInfo, outcome: StudyOutcome) -> list[str]:
    points = [p for p in outcome.front.points if p.trial.origin != "dense"]
    groups = searched_groups(study)
    if not points or not groups:
        return []
    shown = points[:_MOST_COLUMNS]
    units = {group.name: group.units for group in study.groups}
    rows = [
        [f"`{group}`", f"{units[group]}", *(_asked_and_achieved(point.trial, group) for point in shown)]
        for group in groups
    ]
    text = "Share of each group's units that went; in brackets what was asked, where whole units made it another."
    if len(shown) < len(points):
        text += f" The first {len(shown)} of {len(points)} members; all of them are in `front.json`."
    table = _table(["group", "units", *(f"trial {p.trial.number}" for p in shown)], rows)
    return ["## Ratios", text, table, "![Ratios per group](ratios.svg)"]


def _knobs(outcome: StudyOutcome) -> list[str]:
    shown = [p.trial for p in outcome.front.points if p.trial.origin != "dense"][:_MOST_COLUMNS]
    names = knob_names(shown)
    if not names:
        return []
    rows = [[f"`{name}`", *(chosen(t.knobs[name]) if name in t.knobs else NO_VALUE for t in shown)] for name in names]
    text = "What the search chose besides the ratios."
    return ["## Knobs", text, _table(["knob", *(f"trial {trial.number}" for trial in shown)], rows)]


def _asked_and_achieved(trial: TrialResult, group: str) -> str:
    asked, achieved = trial.ratios.get(group), trial.achieved.get(group)
    if achieved is None:
        return NO_VALUE
    if asked is None or abs(asked - achieved) < 0.0005:
        return percent(achieved)
    return f"{percent(achieved)} ({percent(asked)})"


def _unfinished(outcome: StudyOutcome) -> list[str]:
    trials = [trial for trial in outcome.trials if trial.state != "complete"]
    if not trials:
        return []
    rows = [[f"{t.number}", t.state, t.reason or NO_VALUE] for t in trials[:_MOST_REASONS]]
    parts = ["## Failed and rejected", _table(["trial", "state", "reason"], rows)]
    if len(trials) > _MOST_REASONS:
        parts.append(f"{len(trials) - _MOST_REASONS} more are in `trials.csv`.")
    return parts


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
