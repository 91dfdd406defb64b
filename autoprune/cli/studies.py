"""``search``, ``resume``, ``report`` and ``select``."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.api.printed import table
from autoprune.cli.options import AsJson, Overrides, PluginFiles, SpecPath, host_with
from autoprune.cli.reply import INTERRUPTED, Reply

if TYPE_CHECKING:
    from rich.console import RenderableType

    from autoprune.spec import Spec
    from autoprune.study import SearchResult


def search(
    spec: SpecPath,
    overrides: Overrides = None,
    plugins: PluginFiles = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder of the study, over the spec's output.")
    ] = None,
    as_json: AsJson = False,
) -> Reply:
    """Search, and print the Pareto front."""
    import json

    from autoprune.api.progress import progress
    from autoprune.host.binding import load_spec
    from autoprune.host.plugins import PluginHost

    host = PluginHost()
    folder = () if output is None else (f"output={json.dumps(str(output.absolute()))}",)
    checked = load_spec(spec, overrides=(*(overrides or ()), *folder), host=host, plugins=plugins or ())
    with progress(live=not as_json) as observer:
        from autoprune.study import search as run  # torch and optuna: the display is up by now

        result = run(checked, host=host, observers=[observer], tell=observer.tell)
    return _reply(result)


def resume(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study's folder, or the spec that it came from.")],
    trials: Annotated[
        int | None, typer.Option(min=1, help="Number of trials in all; as asked before if left out.")
    ] = None,
    plugins: PluginFiles = None,
    as_json: AsJson = False,
) -> Reply:
    """Continue an interrupted or killed study, or extend it.

    It has its own copies of the spec and of the plugin files that it began with.
    """
    from autoprune.api.progress import progress

    host, folder = host_with(plugins), study
    if not study.is_dir():
        folder, spec = _latest(study, plugins)
        _check_unchanged(study, spec, folder)
    with progress(live=not as_json) as observer:
        from autoprune.study import resume as run

        result = run(folder, trials=trials, host=host, observers=[observer], tell=observer.tell)
    return _reply(result)


def report(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study's folder, or the spec that it came from.")],
    compare: Annotated[
        list[Path] | None,
        typer.Option(metavar="STUDY", help="Print it beside another study of the same objectives. May be repeated."),
    ] = None,
    plugins: PluginFiles = None,
    _json: AsJson = False,
) -> Reply:
    """Write the report of a study into its folder.

    Prints the front as it stands; nothing is measured. With --compare, prints studies side by side instead, with
    hypervolumes at one reference point.
    """
    from autoprune.study.stored import read_study

    host = host_with(plugins)
    found = [each if each.is_dir() else _latest(each, plugins)[0] for each in (study, *(compare or ()))]
    results = [read_study(folder, host=host) for folder in found]
    if compare:
        return _compared(results)
    reply = _reply(results[0])
    return replace(reply, exit_code=0)  # the report is done, however the search ended


def _compared(results: Sequence[SearchResult]) -> Reply:
    from autoprune.report import comparison, comparison_summary

    studies = [(result.study, result.outcome) for result in results]
    titles, cells = comparison_summary(studies)
    rows = table(*(title if title == "study" else f"#{title}" for title in titles), title="studies")
    for row in cells:
        rows.add_row(*row)
    return Reply({"studies": comparison(studies)}, (rows,))


def select(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study's folder, or the spec that it came from.")],
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="BOUND", help='Of members within it alone: "accuracy >= 97% of dense". May be repeated.'),
    ] = None,
    minimize: Annotated[str | None, typer.Option("--min", metavar="METRIC", help="The one with least of it.")] = None,
    maximize: Annotated[
        str | None,
        typer.Option("--max", metavar="METRIC", help="The one with most of it; of neither, the best compromise."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="New folder that the model is copied to.")
    ] = None,
    plugins: PluginFiles = None,
    _json: AsJson = False,
) -> Reply:
    """Choose a model of the front, and copy it."""
    from autoprune.errors import StudyError
    from autoprune.report import point_verdict
    from autoprune.structure.saved.opening import opening_call
    from autoprune.study.stored import read_study

    folder, host = study if study.is_dir() else _latest(study, plugins)[0], host_with(plugins)
    result = read_study(folder, host=host)
    point = result.select(*(where or ()), minimize=minimize, maximize=maximize)
    model = point.trial.model
    if model is None:
        raise StudyError(f"trial {point.trial.number} has no saved model; autoprune resume {folder} measures again")
    if output is not None:
        if output.exists():
            raise StudyError(f"{output} is there already; name a new folder")
        shutil.copytree(model, output)
        model = output
    shown = _short(model.absolute())
    values = {name: measured.value for name, measured in point.trial.metrics.items()}
    document = {"trial": point.trial.number, "model": str(model.absolute()), "metrics": values}
    told = point_verdict(result.study, result.outcome, point)
    return Reply(document, (told, f"model: {shown}", f"open it: {opening_call(shown, host)}"))


def _reply(result: SearchResult) -> Reply:
    from autoprune.report import verdict, write_report

    folder = _short(result.study.folder)
    written = write_report(result.study.folder, result.study, result.outcome)
    done, asked = len(result.outcome.trials), result.study.trials
    text = [verdict(result.study, result.outcome), f"study: {folder}", f"report: {_short(written)}"]
    text += [f"{name}: {result.facts[name]}" for name in ("url", "hint") if name in result.facts]
    shown = (*_front(result), *text)
    document = result.to_json() | {"report": str(written)}
    if result.outcome.interrupted:
        hint = f"{done} of {asked} trials are done; go on with: autoprune resume {shlex.quote(str(folder))}"
        return Reply(document, shown, INTERRUPTED, (hint,))
    return Reply(document, shown)


def _front(result: SearchResult) -> tuple[RenderableType, ...]:
    """The table of the front, what it is of, and where its models are."""
    from autoprune.cli.front import FrontTable
    from autoprune.report import tested_on
    from autoprune.study.models import model_folder

    points = result.front.points
    if not points:
        return ()
    below = f", below it {tested_on(result.outcome)}" if any(point.test for point in points) else ""
    lines = [f"validation split{below}; 95 % intervals"]
    if result.models:
        lines.append(f"models: {_short(model_folder(result.study.folder, '<trial>'))}")
    if unsaved := [str(point.trial.number) for point in points if point.trial.model is None]:
        lines.append(f"no model is saved of {', '.join(unsaved)}")
    return FrontTable(result.study, result.outcome, f"front of {result.study.name}"), *lines


def _latest(spec: Path, plugins: Sequence[Path] | None) -> tuple[Path, Spec]:
    """Folder of the latest study that a spec was searched in, and the spec as it is now.

    The spec is read by a host of its own: its plugin files may have changed since, and the study has copies.

    Raises:
        StudyError: There is none.
    """
    from autoprune.errors import StudyError
    from autoprune.host.binding import load_spec

    if not spec.exists():
        raise StudyError(f"there is no study or spec at {spec}")
    checked = load_spec(spec, plugins=plugins or ())
    if checked.output is not None:
        return checked.document.folder / checked.output, checked
    runs = [f for f in Path("runs").glob(f"{checked.name}-*") if f.name.removeprefix(f"{checked.name}-").isdecimal()]
    if not runs:
        raise StudyError(
            f"{spec} was not searched from here: there is no runs/{checked.name}-*; name the study's folder"
        )
    return max(runs, key=lambda folder: int(folder.name.removeprefix(f"{checked.name}-"))), checked


def _check_unchanged(path: Path, now: Spec, folder: Path) -> None:
    """Refuse to go on with a study of other objectives or bounds than the spec has by now.

    Raises:
        StudyError: They differ.
    """
    from autoprune.errors import StudyError
    from autoprune.host.plugins import PluginHost
    from autoprune.study.folder import StudyFolder

    then = StudyFolder.open(folder).spec(PluginHost())
    for section in ("objectives", "constraints"):
        ours, theirs = ({n: str(value) for n, value in getattr(each, section).items()} for each in (now, then))
        if ours != theirs:
            told = ", ".join(f"{name}: {value}" for name, value in theirs.items()) or "none"
            raise StudyError(
                f"{path} has other {section} than {_short(folder.absolute())} began with ({told}); name the folder to"
                " go on with those, or search anew"
            )


def _short(path: Path) -> Path:
    """Relative to the current folder where it is inside."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
