"""``search``, ``resume``, ``report`` and ``select``."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from autoprune.cli import answers
from autoprune.cli.answers import short
from autoprune.cli.options import AsJson, Overrides, PluginFiles, SpecPath, StudyPath, folder_of, host_with
from autoprune.cli.reply import Reply
from autoprune.cli.specs import write

if TYPE_CHECKING:
    from autoprune.host.plugins import PluginHost
    from autoprune.plugin import Measured
    from autoprune.plugin.values import Direction
    from autoprune.spec import Spec


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
    return answers.session(result)


def resume(
    study: StudyPath,
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

    host, folder = host_with(plugins), folder_of(study, plugins)
    with progress(live=not as_json) as observer:
        if folder != study:
            _check_unchanged(study, folder, plugins)
        from autoprune.study import resume as run

        result = run(folder, trials=trials, host=host, observers=[observer], tell=observer.tell)
    return answers.session(result)


def report(
    study: StudyPath,
    compare: Annotated[
        list[Path] | None,
        typer.Option(metavar="STUDY", help="Print it beside another study of the same objectives. May be repeated."),
    ] = None,
    objectives: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            metavar="'METRIC: WAY'",
            help='Rank its trials by others than its own objectives: "size_mb: minimize". May be repeated.',
        ),
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="Print the page report.html instead.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the table of the front as CSV instead.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Write into that folder instead of the study's; with --html or --csv, into that file.",
        ),
    ] = None,
    plugins: PluginFiles = None,
    as_json: AsJson = False,
) -> Reply:
    """Write the report of a study into its folder.

    Prints the front as it stands; nothing is measured. With --compare, prints studies side by side instead, with
    hypervolumes at one reference point. With --html, --csv, --compare or --objective nothing is written but what -o
    names.
    """
    from autoprune.report import comparison, csv_text, front_table, report_page, write_report
    from autoprune.study.reranking import left_out
    from autoprune.study.stored import read_study

    wanted = [option for option, given in (("--html", html), ("--csv", csv), ("--json", as_json)) if given]
    if len(wanted) > 1:
        raise typer.BadParameter(f"{' and '.join(wanted)} are several answers; ask for one of them")
    if compare and (html or (output and not csv)):
        raise typer.BadParameter(
            f"studies side by side are no {'page' if html else 'report; add --csv, or leave -o out'}"
        )
    host = host_with(plugins)
    found = [folder_of(each, plugins) for each in (study, *(compare or ()))]
    results = [read_study(folder, host=host) for folder in found]
    if objectives:
        directions = dict(map(_objective, objectives))
        results = [result.ranked_by(directions) for result in results]
    result = results[0]
    out = [(each.study.name, left_out(each.outcome, each.front.objectives)) for each in results if objectives]
    told = tuple(f"{name}: {line}" for name, line in out if line)
    if html:
        return replace(_text(report_page(result.study, result.outcome), output), errors=told)
    if csv:
        rows = comparison([(r.study, r.outcome) for r in results]) if compare else front_table(result.outcome)
        return replace(_text(csv_text(rows), output), errors=told)
    if compare:
        return replace(answers.compared(results), errors=told)
    if objectives:
        return answers.ranked(result, write_report(output, result.study, result.outcome) if output else None)
    return replace(answers.session(result, output), exit_code=0)  # the report is done, however the search ended


def _objective(text: str) -> tuple[str, Direction]:
    """A metric and which way is better; that both are known is seen to later."""
    name, _, direction = (part.strip() for part in text.partition(":"))
    return name, cast("Direction", direction)


def _text(text: str, output: Path | None) -> Reply:
    """The one answer of a command: printed, or in a file."""
    if output is None:
        return Reply({}, (text.removesuffix("\n"),))
    write(output, text)
    return Reply({}, (f"wrote {output}",))


def select(
    study: StudyPath,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="BOUND", help='Of members within it alone: "accuracy >= 97% of dense". May be repeated.'),
    ] = None,
    minimize: Annotated[str | None, typer.Option("--min", metavar="METRIC", help="The one with least of it.")] = None,
    maximize: Annotated[
        str | None,
        typer.Option("--max", metavar="METRIC", help="The one with most of it; of neither, the best compromise."),
    ] = None,
    trial: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="That one, on the front or not; made again where its model is not saved."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="New folder that the model is copied to.")
    ] = None,
    plugins: PluginFiles = None,
    as_json: AsJson = False,
) -> Reply:
    """Choose a model of the front, and copy it.

    Only the front's models are saved: with --trial, that of any other complete trial is cut and measured again, as the
    search did, without the larger repair that members of the front get at the end.
    """
    from autoprune.errors import StudyError
    from autoprune.report import point_verdict
    from autoprune.structure.saved.opening import opening_call
    from autoprune.study.stored import read_study

    if trial is not None and (where or minimize or maximize):
        raise typer.BadParameter("--trial says which one; leave --where, --min and --max out")
    folder, host = folder_of(study, plugins), host_with(plugins)
    result = read_study(folder, host=host)
    if trial is None:
        point = result.select(*(where or ()), minimize=minimize, maximize=maximize)
    else:
        point = result.point(trial)
    model, metrics, lines = point.trial.model, point.trial.metrics, [point_verdict(result.study, result.outcome, point)]
    if output is not None and output.exists():
        raise StudyError(f"{output} is there already; name a new folder")
    if model is None:
        if output is None:
            raise StudyError(f"trial {point.trial.number} has no saved model; -o DIR makes it again, into that folder")
        if "live" in (result.study.spec.model["use"], result.study.spec.data["use"]):
            raise StudyError(
                f"trial {point.trial.number} has no saved model, and the study is of objects that were handed over in"
                " Python: it is not made again from here"
            )
        model, metrics = output, _made_again(folder, point.trial.number, output, host, live=not as_json)
        lines.append(answers.made_again(result.study, point.trial, metrics))
    elif output is not None:
        model = shutil.copytree(model, output)
    shown = short(model.absolute())
    values = {name: measured.value for name, measured in metrics.items()}
    document = {"trial": point.trial.number, "model": str(model.absolute()), "metrics": values}
    return Reply(document, (*lines, f"model: {shown}", f"open it: {opening_call(shown, host)}"))


def _made_again(study: Path, number: int, into: Path, host: PluginHost, *, live: bool) -> dict[str, Measured]:
    """What the model of a trial is measured as, which is made again."""
    from autoprune.api.progress import progress

    with progress(live=live) as observer:
        from autoprune.study.remaking import remake

        return remake(study, number, into, host=host, tell=observer.tell).metrics


def _check_unchanged(path: Path, folder: Path, plugins: Sequence[Path] | None) -> None:
    """Refuse to go on with a study of other objectives or bounds than the spec has by now; warn of all else.

    Raises:
        StudyError: They differ.
    """
    from autoprune.errors import StudyError
    from autoprune.host.binding import load_spec
    from autoprune.host.plugins import PluginHost
    from autoprune.study.folder import StudyFolder
    from autoprune.study.observers import log

    study, shown = StudyFolder.open(folder), short(folder.absolute())
    # What was laid over the spec then is no change of it.
    then, now = study.spec(PluginHost()), load_spec(path, overrides=study.overrides, plugins=plugins or ())
    for section in ("objectives", "constraints"):
        ours, theirs = ({n: str(value) for n, value in getattr(each, section).items()} for each in (now, then))
        if ours != theirs:
            told = ", ".join(f"{name}: {value}" for name, value in theirs.items()) or "none"
            raise StudyError(
                f"{path} has other {section} than {shown} began with ({told}); name the folder to go on with those, or"
                " search anew"
            )
    if changed := _differences(now, then):
        more = "; --trials asks for more" if "search.trials" in changed else ""
        log.warning("%s has other %s than %s began with, which goes on as it began%s", path, ", ".join(changed), shown,
                    more)  # fmt: skip


def _differences(one: Spec, other: Spec) -> list[str]:
    """Keys of what differs, those of ``search`` each by itself."""
    ours, theirs = (spec.model_dump(mode="json") for spec in (one, other))
    searches = [document.pop("search") for document in (ours, theirs)]
    changed = [name for name in ours if ours[name] != theirs[name]]
    return changed + [f"search.{name}" for name in searches[0] if searches[0][name] != searches[1][name]]
