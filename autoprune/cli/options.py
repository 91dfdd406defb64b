"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from autoprune.host.plugins import PluginHost

SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="The spec, a YAML file.")]
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
