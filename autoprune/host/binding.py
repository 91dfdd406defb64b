"""From a spec's file to a checked spec, and from a spec to its components.

Everything that can be told without the data and the model is told here, all at once: the form of the file, its
structure, every component's options, and whether objectives have an evaluator that makes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from autoprune.spec.secrets import masked, masked_data


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
    document, mistakes = read_document(path, overrides, folder=folder)
    return _checked(document, mistakes, host or PluginHost(), plugins=plugins, kept=kept)


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
    try:
        text = write_text(to_jsonable_python(mapping))
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise SpecError([Mistake((), f"holds what a spec cannot say: {masked(str(error)):.300}")]) from error
    return _checked(*read_text(text, folder=folder), host or PluginHost(), plugins=plugins)


def bind(spec: Spec, host: PluginHost) -> Components:
    """Look up and build the components that a spec names, from its plugin files, too.

    Raises:
        SpecError: A component is unknown or its options are wrong, or an objective has no evaluator.
        PluginError: A plugin file that came with it cannot be loaded any more.
    """
    data, document = spec.model_dump(), spec.document
    for file in document.plugins or ():
        host.load_file(file)
    mistakes = [] if document.plugins is not None else _load_files(data, document, host)[1]
    if not mistakes:
        found, mistakes = _look_up(data, document, host)
    if mistakes:
        raise SpecError(mistakes)
    return Components(found.variables, chooses_scorer=chooses(written(data, ("scorer",))[0]))


def spec_hash(spec: Spec) -> str:
    """SHA-256 of what the spec says, defaults filled in; the same however the file is laid out.

    The order of keys counts where it has a meaning: for the patterns of groups and for the objectives.
    """
    plain = masked_data(spec.model_dump(mode="json"))
    plain["search_space"]["groups"] = list(plain["search_space"]["groups"].items())
    plain["objectives"] = list(plain["objectives"].items())
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _checked(
    document: Document,
    mistakes: list[Mistake],
    host: PluginHost,
    *,
    plugins: Sequence[str | Path] = (),
    kept: Sequence[Path] | None = None,
) -> Spec:
    brought = [Path(each).resolve() for each in (*plugins, *(kept or ()))]
    for file in brought:
        host.load_file(file)
    named, unloaded = ([], []) if kept is not None else _load_files(document.data, document, host)
    document = replace(document, plugins=(*brought, *named))
    spec, structural = parse(document)
    mistakes = [*mistakes, *structural, *unloaded]
    if document.data is not None and not unloaded:  # what would come from files that cannot be loaded is not missed
        mistakes += _look_up(document.data, document, host)[1]
    if spec is None or mistakes:
        raise SpecError(mistakes)
    return spec


def _load_files(data: Any, document: Document, host: PluginHost) -> tuple[list[Path], list[Mistake]]:
    """Load the plugin files that a spec names, whole or not; which they are, and what is wrong with them."""
    files = data.get("plugins") if isinstance(data, Mapping) else None
    found, mistakes = [], []
    for index, file in enumerate(files if isinstance(files, list) else ()):
        if isinstance(file, str) and document.reads(("plugins", index)):
            found.append((document.folder / file).resolve())
            try:
                host.load_file(found[-1])
            except PluginError as error:
                mistakes.append(document.mistake(("plugins", index), str(error)))
    return found, mistakes


def _look_up(data: Mapping[str, Any], document: Document, host: PluginHost) -> tuple[Found, list[Mistake]]:
    found = look_up(data, document, host)
    return found, [*found.mistakes, *metric_mistakes(data, found.variables, document, host)]
