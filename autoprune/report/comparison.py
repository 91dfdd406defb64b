"""Several studies side by side, by the same measure."""

from __future__ import annotations

from collections.abc import Sequence

from autoprune.errors import StudyError
from autoprune.plugin.domination import losses
from autoprune.plugin.results import StudyInfo, StudyOutcome
from autoprune.plugin.volume import hypervolume
from autoprune.report._words import heading, number
from autoprune.report.tables import Row


def comparison(studies: Sequence[tuple[StudyInfo, StudyOutcome]]) -> list[Row]:
    """A row per study: its trials, its front, the best of each objective and the hypervolume.

    Hypervolumes are of the validation values of the saved models, against one reference point: of each objective the
    worst reference that any of the studies has.

    Args:
        studies: Each with how it ended.

    Raises:
        StudyError: Their objectives differ.
    """
    import numpy as np

    objectives = studies[0][1].front.objectives
    for study, outcome in studies:
        if outcome.front.objectives != objectives:
            ours, theirs = (
                ", ".join(f"{n}: {d}" for n, d in each.items()) for each in (objectives, outcome.front.objectives)
            )
            raise StudyError(
                f"studies of other objectives can't be compared: {studies[0][0].name} has {ours},"
                f" {study.name} has {theirs}"
            )
    signs = {name: -1.0 if direction == "maximize" else 1.0 for name, direction in objectives.items()}
    corner = [max(signs[name] * outcome.front.reference[name] for _, outcome in studies) for name in objectives]
    rows: list[Row] = []
    for study, outcome in studies:
        points = [losses(point.trial.metrics, objectives) for point in outcome.front.points]
        best = [min(column) for column in zip(*points, strict=True)] or [None] * len(objectives)
        rows.append(
            {
                "study": study.name,
                "trials": len(outcome.trials),
                "front": len(points),
                **{
                    f"best {name}": None if value is None else signs[name] * value
                    for name, value in zip(objectives, best, strict=True)
                },
                "hypervolume": hypervolume(np.array(points), np.array(corner)),
            }
        )
    return rows


def comparison_summary(studies: Sequence[tuple[StudyInfo, StudyOutcome]]) -> tuple[list[str], list[list[str]]]:
    """The same for a reader: titles, and a row of texts per study.

    Raises:
        StudyError: Their objectives differ.
    """
    units = {name: studies[0][0].units.get(name, "") for name in studies[0][1].front.objectives}
    titles = [
        "study",
        "trials",
        "front",
        *(f"best {heading(name, unit)}" for name, unit in units.items()),
        "hypervolume",
    ]
    rows = []
    for row in comparison(studies):
        values = [(row[f"best {name}"], unit) for name, unit in units.items()]
        told = ["" if value is None else number(float(value), unit) for value, unit in values]
        rows.append([str(row["study"]), str(row["trials"]), str(row["front"]), *told, f"{row['hypervolume']:.4g}"])
    return titles, rows
