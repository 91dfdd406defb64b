"""The app: which commands there are."""

from __future__ import annotations

from typing import Annotated

import typer

from autoprune.cli import doctor, explain, plugins, specs, studies, tracking

app = typer.Typer(
    name="autoprune",
    help="Search per-layer pruning ratios for the best of accuracy, latency and attack robustness.",
    add_completion=False,
    rich_markup_mode=None,  # importing rich would double the time that --help takes
)
app.command()(specs.init)
app.command()(specs.validate)
app.command()(explain.explain)
app.command()(studies.search)
app.command()(studies.resume)
app.command()(studies.report)
app.command()(studies.select)
app.command()(tracking.sync)
app.command()(tracking.ui)
app.add_typer(plugins.app, name="plugins")
app.command()(specs.schema)
app.command()(doctor.doctor)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"autoprune {version('autoprune')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
