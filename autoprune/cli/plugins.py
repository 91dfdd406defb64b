"""``plugins list`` and ``plugins show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoprune.api.printed import table
from autoprune.cli.options import AsJson, PluginFiles, host_with
from autoprune.cli.reply import Reply

if TYPE_CHECKING:
    from autoprune.host.plugins import Plugin

app = typer.Typer(help="List plugins, or show what a component takes.")


@app.command("list")
def list_plugins(files: PluginFiles = None, _json: AsJson = False) -> Reply:
    """Print the plugins, and what is wrong with them."""
    plugins = host_with(files).plugins
    rows = table("plugin", "from", "brings", "names")
    for plugin in plugins:
        for index, (kind, names) in enumerate(_rows(plugin)):
            origin = str(plugin.file or f"{plugin.distribution} {plugin.version}".strip())
            rows.add_row(*((plugin.name, origin) if index == 0 else ("", "")), kind, names)
    return Reply({"plugins": [_document(plugin) for plugin in plugins]}, (rows,))


@app.command("show")
def show_component(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What a spec says after `use`.")],
    files: PluginFiles = None,
    _json: AsJson = False,
) -> Reply:
    """Print the options and the metrics of a component."""
    from autoprune.cli.components import described, texts
    from autoprune.spec import near

    plugins = host_with(files).plugins
    found = [(component, plugin) for plugin in plugins for component in plugin.components if component.name == name]
    if not found:
        known = {component.name for plugin in plugins for component in plugin.components}
        raise typer.BadParameter(f"no component is called {name!r}{near(name, known)}")
    documents = [described(component) | {"plugin": _origin(plugin)} for component, plugin in found]
    return Reply({"components": documents}, tuple(part for document in documents for part in texts(document)))


def _rows(plugin: Plugin) -> list[tuple[str, str]]:
    kinds: dict[str, list[str]] = {}
    for component in plugin.components:
        kinds.setdefault(component.kind, []).append(component.name)
    rows = [(kind, ", ".join(names)) for kind, names in kinds.items()]
    if plugin.error is not None:
        rows.append(("BROKEN", plugin.error))
    return rows or [("hooks", "")]


def _origin(plugin: Plugin) -> dict[str, str | None]:
    file = None if plugin.file is None else str(plugin.file)
    return {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version, "file": file}


def _document(plugin: Plugin) -> dict[str, Any]:
    components = [{"kind": component.kind, "name": component.name} for component in plugin.components]
    return {**_origin(plugin), "error": plugin.error, "components": components}
