"""``sync``: what MLflow lacks of a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.options import AsJson, PluginFiles, host_with
from autoprune.cli.reply import Reply
from autoprune.cli.studies import _latest

if TYPE_CHECKING:
    from autoprune.tracking.sync import Sent


def sync(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study's folder, or the spec that it came from.")],
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
    folder = study if study.is_dir() else _latest(study, plugins)[0]
    with StudyFolder.open(folder).locked():
        result = read_study(folder, host=host)
        sent = send(result.study, result.outcome, uri=uri, name=register, host=host)
    return _reply(result.study.name, len(result.outcome.trials), sent, register)


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
