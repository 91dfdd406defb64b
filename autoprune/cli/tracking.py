"""``sync`` and ``ui``: studies in MLflow."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.options import AsJson, PluginFiles, StudyPath, folder_of, host_with
from autoprune.cli.reply import Reply

if TYPE_CHECKING:
    from autoprune.plugin import StudyInfo
    from autoprune.tracking.sync import Sent


def sync(
    study: StudyPath,
    uri: Annotated[
        str | None,
        typer.Option(
            metavar="URI", help="Send it there; it stays the study of its own store. Left out, send it to that."
        ),
    ] = None,
    register: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Register the best of the front as versions of that model, with the aliases fastest, most-accurate,"
            " most-robust, safest, balanced and smallest, as far as there is one.",
        ),
    ] = None,
    plugins: PluginFiles = None,
    _json: AsJson = False,
) -> Reply:
    """Send MLflow what it lacks of a study.

    After an outage, of a killed study, or of one that was not tracked: each trial and each model once. Nothing is run.
    A study that is being searched is refused: its search does it.
    """
    from autoprune.study.folder import StudyFolder
    from autoprune.study.stored import read_study
    from autoprune.tracking.sync import send

    host = host_with(plugins)
    folder = folder_of(study, plugins)
    with StudyFolder.open(folder).locked():
        result = read_study(folder, host=host)
        sent = send(result.study, result.outcome, uri=uri, name=register, host=host)
    return _reply(result.study.name, len(result.outcome.trials), sent, register)


def ui(
    study: Annotated[
        Path | None,
        typer.Argument(
            metavar="STUDY", help="The study's folder, or the spec that it came from; the default store if left out."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The first port to try; a free one is taken.")] = 5000,
    browser: Annotated[bool, typer.Option(help="Open a browser, where there is a screen.")] = True,
    plugins: PluginFiles = None,
    as_json: AsJson = False,
) -> Reply:
    """Show a study in MLflow and, if installed, optuna-dashboard.

    Starts what serves them on this machine, for it alone, until Ctrl-C. Where the study is on an HTTP server, nothing
    is started.
    """
    from autoprune.tracking.links import place
    from autoprune.tracking.serving import Interrupted, Running, dashboard, mlflow_server

    info, storage = (None, None) if study is None else _study(study, plugins)
    where = place(info)
    if where.base is not None:
        url = where.base + where.path
        _open(url, asked=browser)
        return Reply({"url": url}, (url,))
    told: dict[str, str] = {}
    interrupted = Interrupted()
    with interrupted.heard(), Running(interrupted) as servers:
        server = mlflow_server(where.uri, first_port=port)
        servers.start(server)
        told["url"] = server.url + where.path
        if not interrupted:
            typer.echo(told["url"], err=as_json)
            _open(told["url"], asked=browser)
        if storage is not None and (optuna := dashboard(storage, first_port=8080)) is not None:
            servers.start(optuna)
            told["dashboard"] = f"{optuna.url}/dashboard"
            typer.echo(f"optuna-dashboard: {told['dashboard']}", err=as_json)
        if not interrupted:
            typer.echo("Ctrl-C ends it", err=True)
        servers.wait()
    return Reply(told)


def _study(study: Path, plugins: Sequence[Path] | None) -> tuple[StudyInfo, str]:
    """What is to be shown, and where Optuna keeps it."""
    from autoprune.study.folder import JOURNAL_FILE, StudyFolder

    folder = StudyFolder.open(folder_of(study, plugins))
    spec = folder.spec(host_with(plugins))
    storage = spec.search.storage or str(folder.path / JOURNAL_FILE)
    kind, _, path = storage.partition(":///")
    if kind.startswith("sqlite") and path:
        storage = f"{kind}:///{spec.document.folder / path}"
    return folder.read_info(spec), storage


def _open(url: str, *, asked: bool) -> None:
    """In a browser that has a window: one in the terminal would take it over."""
    import webbrowser

    screen = sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if asked and screen:
        webbrowser.open(url)


def _reply(study: str, trials: int, sent: Sent, registered: str | None) -> Reply:
    lines = [
        f"sent: {sent.trials} of {trials} trials, {sent.models} models; {sent.facts['tracking_uri']} has all of {study}"
    ]
    lines += [f"{name}: {sent.facts[name]}" for name in ("url", "view", "hint") if name in sent.facts]
    for version in sent.versions:
        told = f"trial {version.trial}, {', '.join(version.aliases)}"
        lines.append(f"{registered} version {version.number}{'' if version.new else ', as before'}: {told}")
    versions = {v.number: {"trial": v.trial, "aliases": list(v.aliases), "new": v.new} for v in sent.versions}
    document = {"study": study, "sent": {"trials": sent.trials, "models": sent.models}, **sent.facts}
    return Reply(document | ({"registered": {registered: versions}} if registered else {}), tuple(lines))
