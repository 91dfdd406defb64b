"""``init``, ``validate`` and ``schema``: commands about specs, none of which searches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from autoprune.cli.options import AsJson, Overrides, PluginFiles, SpecPath, host_with
from autoprune.cli.reply import Reply

SCHEMA_FILE = "autoprune.schema.json"


def init(
    path: Annotated[Path, typer.Argument(help="File to write; in a folder, its spec.yaml.")] = Path("spec.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False,
    _json: AsJson = False,
) -> Reply:
    """Write a commented spec that runs as it stands.

    Its JSON Schema goes beside it, for editors that know the YAML language server.
    """
    from importlib.resources import files

    path = path / "spec.yaml" if path.is_dir() else path
    if path.exists() and not force:
        raise typer.BadParameter(f"{path} is there already; --force overwrites it")
    template = files("autoprune.cli").joinpath("template.yaml").read_text(encoding="utf-8")
    schema = path.with_name(SCHEMA_FILE)
    write(path, template)
    write(schema, _schema_text())
    return Reply(
        {"spec": str(path), "schema": str(schema)},
        (f"wrote {path} and {schema}", f"next: autoprune explain {path}, then autoprune search {path}"),
    )


def validate(
    spec: SpecPath,
    overrides: Overrides = None,
    plugins: PluginFiles = None,
    spec_only: Annotated[
        bool, typer.Option("--spec-only", help="Check the text alone; load neither the model nor the data.")
    ] = False,
    _json: AsJson = False,
) -> Reply:
    """Check a spec, and say all that is wrong with it.

    First its text; if that is right, against the model and the data.
    """
    from autoprune.host.binding import load_spec
    from autoprune.host.plugins import PluginHost

    host = PluginHost()
    checked = load_spec(spec, overrides=overrides or (), host=host, plugins=plugins or ())
    document = {"spec": str(spec), "name": checked.name, "valid": True, "objectives": dict(checked.objectives)}
    facts = [f"{len(checked.objectives)} objectives", f"{checked.search.trials} trials"]
    if not spec_only:
        from autoprune.study.resolution import resolve

        space = resolve(checked, host).space
        ratios = sum(group.searched for group in space.groups)
        knobs = [knob.name for knob in space.knobs]
        document |= {"groups": len(space.groups), "searched_groups": ratios, "knobs": knobs}
        facts.append(f"ratios of {ratios} groups")
        facts += [f"{len(knobs)} other knobs"] if knobs else []
    return Reply(document, (f"{spec} is valid: {', '.join(facts)}",))


def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there instead of to stdout.")
    ] = None,
    plugins: PluginFiles = None,
    _json: AsJson = False,
) -> Reply:
    """Print the JSON Schema of specs.

    It holds the options of every component that is installed or in the given files.
    """
    import json

    text = _schema_text(plugins)
    if output is None:
        return Reply(json.loads(text), (text.rstrip("\n"),))
    write(output, text)
    return Reply({"schema": str(output)}, (f"wrote {output}",))


def _schema_text(plugins: Sequence[Path] | None = None) -> str:
    import json

    from autoprune.host.schema import json_schema

    return json.dumps(json_schema(host_with(plugins)), indent=2) + "\n"


def write(path: Path, text: str) -> None:
    """Write a file, and the folder that it is in.

    Raises:
        BadParameter: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}") from error
