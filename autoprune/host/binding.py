"""From a spec's file to a checked spec, and from a spec to its components.

Everything that can be told without the data and the model is told here, all at once: the form of the file, its
structure, every component's options, and whether objectives have an evaluator that makes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from autoprune.errors import Mistake, PluginError, SpecError
from autoprune.host.components import Components
from autoprune.host.lookup import Found, look_up
from autoprune.host.metrics import metric_mistakes
from autoprune.host.plugins import PluginHost
from autoprune.host.slots import chooses, written
from autoprune.spec import Document, Spec, parse, read_document, read_text, write_text


def load_spec(
    path: str | Path,
    *,
    overrides: Sequence[str] = (),
    host: PluginHost | None = None,
    folder: Path | None = None,
    plugins: Sequence[str | Path] = (),
    kept: Sequence[Path] | None = None,
) -> Spec:
    """Read and check a spec's file. Loads neither torch nor the data.

    Args:
        path: The YAML file.
        overrides: ``path.to.key=value`` to lay over it, as ``--set`` takes them.
        host: Looks components up; the installed plugins if None.
        folder: Where the spec's relative paths start; the file's folder if None.
        plugins: Files with components, besides those that the spec names.
        kept: Copies of plugin files, to load in place of those that the spec names: a study keeps its own.

    Raises:
        SpecError: Anything is wrong; carries every mistake.
        PluginError: One of ``plugins`` or ``kept`` cannot be loaded.
    """
    host = host or PluginHost()
    for file in (*plugins, *(kept or ())):
        host.load_file(file)
    document, mistakes = read_document(path, overrides, folder=folder)
    return _checked(document, mistakes, host, files=kept is None)


def spec_from_mapping(
    mapping: Mapping[str, Any],
    *,
    folder: Path | None = None,
    host: PluginHost | None = None,
    plugins: Sequence[str | Path] = (),
) -> Spec:
    """Check a spec that is written in Python; its document's text is the same spec in YAML.

    Args:
        mapping: What a spec's file would hold.
        folder: Where relative paths start; the current folder if None.
        host: Looks components up; the installed plugins if None.
        plugins: Files with components, besides those that the spec names.

    Raises:
        SpecError: Anything is wrong; carries every mistake.
        PluginError: One of ``plugins`` cannot be loaded.
    """
    host = host or PluginHost()
    for file in plugins:
        host.load_file(file)
    try:
        text = write_text(to_jsonable_python(mapping))
    except PydanticSerializationError as error:
        raise SpecError([Mistake((), f"holds what a spec cannot say: {error}")]) from error
    return _checked(*read_text(text, folder=folder), host)


def bind(spec: Spec, host: PluginHost) -> Components:
    """Look up and build the components that a spec names.

    A spec that was made as an object brings its plugin files now; others did so when they were read.

    Raises:
        SpecError: A component is unknown or its options are wrong, or an objective has no evaluator.
    """
    data = spec.model_dump()
    mistakes = [] if spec.document.text else _load_files(data, spec.document, host)
    if not mistakes:
        found, mistakes = _look_up(data, spec.document, host)
    if mistakes:
        raise SpecError(mistakes)
    return Components(found.variables, chooses_scorer=chooses(written(data, ("scorer",))[0]))


def spec_hash(spec: Spec) -> str:
    """SHA-256 of what the spec says, defaults filled in; the same however the file is laid out.

    The order of keys counts where it has a meaning: for the patterns of groups and for the objectives.
    """
    plain = spec.model_dump(mode="json")
    plain["search_space"]["groups"] = list(plain["search_space"]["groups"].items())
    plain["objectives"] = list(plain["objectives"].items())
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _checked(document: Document, mistakes: list[Mistake], host: PluginHost, *, files: bool = True) -> Spec:
    spec, structural = parse(document)
    mistakes = [*mistakes, *structural]
    if document.data is not None:
        unloaded = _load_files(document.data, document, host) if files else []
        # What the components of a file are that could not be loaded is not worth telling.
        mistakes += unloaded or _look_up(document.data, document, host)[1]
    if spec is None or mistakes:
        raise SpecError(mistakes)
    return spec


def _load_files(data: Mapping[str, Any], document: Document, host: PluginHost) -> list[Mistake]:
    """Load the plugin files that a spec names; what is wrong with them."""
    mistakes = []
    files = data.get("plugins")
    for index, file in enumerate(files if isinstance(files, list) else ()):
        if isinstance(file, str) and document.reads(("plugins", index)):
            try:
                host.load_file(document.folder / file)
            except PluginError as error:
                mistakes.append(document.mistake(("plugins", index), str(error)))
    return mistakes


def _look_up(data: Mapping[str, Any], document: Document, host: PluginHost) -> tuple[Found, list[Mistake]]:
    found = look_up(data, document, host)
    return found, [*found.mistakes, *metric_mistakes(data, found.variables, document, host)]
