"""What the commands that are about studies answer."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.api.printed import table
from autoprune.cli.reply import INTERRUPTED, Reply

if TYPE_CHECKING:
    from rich.console import RenderableType

    from autoprune.plugin import Measured, StudyInfo, TrialResult
    from autoprune.study import SearchResult


def session(result: SearchResult, output: Path | None = None) -> Reply:
    """Of a study as it stands: its front, and the report, which is written into its folder or another one."""
    from autoprune.report import write_report
    from autoprune.tracking.links import shown_at

    folder = short(result.study.folder)
    written = write_report(output or result.study.folder, result.study, result.outcome)
    text = [*front(result), f"study: {folder}", f"report: {short(written)}"]
    if where := shown_at(result.study):
        text.append(f"in MLflow: {where}")
    document = result.to_json() | {"report": str(written)}
    if result.outcome.interrupted:
        done, asked = len(result.outcome.trials), result.study.trials
        hint = f"{done} of {asked} trials are done; go on with: autoprune resume {shlex.quote(str(folder))}"
        return Reply(document, tuple(text), INTERRUPTED, (hint,))
    return Reply(document, tuple(text))


def ranked(result: SearchResult, written: Path | None) -> Reply:
    """Of a study under other objectives than its own."""
    from autoprune.study.reranking import left_out

    text = list(front(result))
    if out := left_out(result.outcome, result.front.objectives):
        text.append(out)
    unsaved = [point.trial.number for point in result.front.points if point.trial.model is None]
    if unsaved:
        folder = shlex.quote(str(short(result.study.folder)))
        text.append(f"make the model of one: autoprune select {folder} --trial {unsaved[0]} -o DIR")
    document = result.to_json() | {"left_out": out}
    if written is None:
        return Reply(document, tuple(text))
    return Reply(document | {"report": str(written)}, (*text, f"report: {short(written)}"))


def compared(results: Sequence[SearchResult]) -> Reply:
    """Of studies side by side."""
    from autoprune.report import comparison, comparison_summary

    studies = [(result.study, result.outcome) for result in results]
    titles, cells = comparison_summary(studies)
    rows = table("study", *(f"#{name}" for name, *_ in cells))  # a column each: there are few, of long names
    for title, *values in zip(titles[1:], *(row[1:] for row in cells), strict=True):
        rows.add_row(title, *values)
    return Reply({"studies": comparison(studies)}, (rows,))


def made_again(study: StudyInfo, trial: TrialResult, metrics: Mapping[str, Measured]) -> str:
    """How the model of a trial compares with what the search had measured of it."""
    from autoprune.plugin import apart
    from autoprune.report import label, number

    told = []
    for name in study.objectives:
        unit, (now, then) = study.units.get(name, ""), (metrics[name], trial.metrics[name])
        other = now.value != then.value if now.low is None else apart(now, then).told_apart
        differs = ", which chance does not explain" if other else ""
        told.append(
            f"{label(name, unit)} {number(now.value, unit)} ({number(then.value, unit)} in the search{differs})"
        )
    return f"made again: {', '.join(told)}"


def front(result: SearchResult) -> list[RenderableType]:
    """The table of the front, what it is of, where its models are, and the verdict."""
    from autoprune.cli.front import FrontTable
    from autoprune.report import picks, tested_on, verdict
    from autoprune.study.models import model_folder

    points, told = result.front.points, verdict(result.study, result.outcome)
    if not points:
        return [told]
    below = f", below it {tested_on(result.outcome)}" if any(point.test for point in points) else ""
    lines = [f"validation split{below}; 95 % intervals"]
    if result.models:
        lines.append(f"models: {short(model_folder(result.study.folder, '<trial>'))}")
    if unsaved := [str(point.trial.number) for point in points if point.trial.model is None]:
        lines.append(f"no model is saved of trial{'s' if len(unsaved) > 1 else ''} {', '.join(unsaved)}")
    named = [
        f"trial {pick.point.trial.number} ({', '.join(pick.names)})" for pick in picks(result.study, result.outcome)
    ]
    lines += [f"worth a look: {', '.join(named)}"] if named else []
    return [FrontTable(result.study, result.outcome, f"front of {result.study.name}"), *lines, told]


def short(path: Path) -> Path:
    """Relative to the current folder where it is inside."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
