"""Arguments and options that several commands share, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from autoprune.host.plugins import PluginHost

SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="The spec, a YAML file.")]
StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="The study's folder, or the spec that it came from.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Lay a value over the spec: search.trials=8. May be repeated."),
]
PluginFiles = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE", help="Python file with components of your own. May be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, everything else on stderr.")]


def host_with(plugins: Sequence[Path] | None) -> PluginHost:
    """The installed plugins, and those files.

    Raises:
        PluginError: A file cannot be loaded.
    """
    from autoprune.host.plugins import PluginHost

    host = PluginHost()
    for file in plugins or ():
        host.load_file(file)
    return host


def folder_of(study: Path, plugins: Sequence[Path] | None) -> Path:
    """The folder of a study: itself, or of the latest study that a spec was searched in.

    The spec is read by a host of its own: its plugin files may have changed since, and the study has copies.

    Raises:
        StudyError: There is none.
    """
    from autoprune.errors import StudyError
    from autoprune.host.binding import load_spec

    if study.is_dir():
        return study
    if not study.exists():
        raise StudyError(f"there is no study or spec at {study}")
    spec = load_spec(study, plugins=plugins or ())
    if spec.output is not None:
        return spec.document.folder / spec.output
    runs = [f for f in Path("runs").glob(f"{spec.name}-*") if f.name.removeprefix(f"{spec.name}-").isdecimal()]
    if not runs:
        raise StudyError(f"{study} was not searched from here: there is no runs/{spec.name}-*; name the study's folder")
    return max(runs, key=lambda folder: int(folder.name.removeprefix(f"{spec.name}-")))
