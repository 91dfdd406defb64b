"""The front of a study's trials under other objectives, of what was measured already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import get_args

from autoprune.errors import StudyError
from autoprune.plugin import StudyInfo, StudyOutcome, TrialResult
from autoprune.plugin.values import Direction
from autoprune.spec import near
from autoprune.study.front import Finals, measure_front


def reranked(
    study: StudyInfo, outcome: StudyOutcome, objectives: Mapping[str, Direction]
) -> tuple[StudyInfo, StudyOutcome]:
    """The study as if it had had these objectives; its constraints hold on.

    Members of the study's own front have the metrics of their saved models, the others those of the search.

    Args:
        study: The study.
        outcome: How it stands.
        objectives: Direction per metric.

    Raises:
        StudyError: There is no such metric, or no such direction.
    """
    _check(outcome, objectives)
    trials = [trial for trial in outcome.trials if not _lacks(trial, objectives)]
    points = {point.trial.number: point for point in outcome.front.points}
    finals = Finals(
        settled={number: point.trial if point.searched else None for number, point in points.items()},
        tests={number: point.test for number, point in points.items()},
        whole_tests={number: point.whole_test for number, point in points.items()},
    )
    front = measure_front(trials, objectives, finals, costs=study.costs)
    same = {point.trial.number for point in front.points} == points.keys()
    changes = {"front": front, "together": outcome.together if same else {}}
    told = {"name": f"{study.name} by {', '.join(objectives)}", "objectives": dict(objectives)}
    return study.model_copy(update=told), outcome.model_copy(update=changes)


def _check(outcome: StudyOutcome, objectives: Mapping[str, Direction]) -> None:
    """Look at whether a front can be made of what was measured.

    Raises:
        StudyError: There is no such metric, or no such direction.
    """
    known = {name for trial in outcome.trials if trial.state == "complete" for name in trial.metrics}
    tested = {name for point in outcome.front.points for name in point.test}
    if not objectives:
        raise StudyError("name one objective at least")
    for name, direction in objectives.items():
        if name not in known and name in tested:
            raise StudyError(f"{name} was measured of the front alone, on the test split: no trial can be ranked by it")
        if name not in known:
            raise StudyError(f"no trial has a metric {name!r}{near(name, known)}")
        if direction not in get_args(Direction):
            raise StudyError(f"{name}: {direction!r} is no direction; write maximize or minimize")


def left_out(outcome: StudyOutcome, objectives: Mapping[str, Direction]) -> str:
    """Which trials cannot be on a front of these objectives, and why, in a line; empty where all can.

    Args:
        outcome: How the study stands.
        objectives: Those of the front.
    """
    states = Counter(trial.state for trial in outcome.trials)
    complete = [trial for trial in outcome.trials if trial.state == "complete"]
    lacking = Counter(name for trial in complete if (name := _lacks(trial, objectives)))
    broken = sum(1 for trial in complete if not trial.feasible)
    parts = [f"{states['failed']} failed"] if states["failed"] else []
    parts += [f"{states['rejected']} rejected, as the study's own objectives had it"] if states["rejected"] else []
    parts += [f"{count} without {name}" for name, count in lacking.items()]
    parts += [f"{broken} that break a constraint"] if broken else []
    return f"left out of {len(outcome.trials)} trials: {'; '.join(parts)}" if parts else ""


def _lacks(trial: TrialResult, objectives: Iterable[str]) -> str:
    """The first metric that a complete trial was not measured by; empty where there is none."""
    if trial.state != "complete":
        return ""
    return next((name for name in objectives if name not in trial.metrics), "")
