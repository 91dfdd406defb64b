"""A spec of keywords, alone or laid over another spec."""

from __future__ import annotations

import json
import numbers
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from autoprune.api.handover import LIVE, WHERE, Handover
from autoprune.errors import SpecError
from autoprune.host.binding import load_spec, spec_from_mapping
from autoprune.host.plugins import PluginHost
from autoprune.spec import Spec, read_document

_NAME = 40
"""Characters of a name that is made of the model's class."""


def spec_of(
    spec: Spec | str | Path | Mapping[str, Any] | None,
    keys: Mapping[str, Any],
    short: Mapping[str, Any],
    *,
    host: PluginHost,
    handover: Handover,
) -> Spec:
    """A spec with keywords laid over it; what is None was not given.

    Args:
        spec: What they are laid over, if anything.
        keys: By keys of a spec.
        short: By keys of its section ``search``.
        host: Looks components up.
        handover: Takes objects.

    Raises:
        SpecError: Anything is wrong.
    """
    keys = {key: value for key, value in keys.items() if value is not None}
    short = {key: value for key, value in short.items() if value is not None}
    if isinstance(spec, Spec) and not keys and not short:
        return spec
    if isinstance(spec, str | Path):
        said = _said_over_file(spec, keys, short, handover)
        return load_spec(spec, overrides=[_override(key, value) for key, value in said.items()], host=host)
    if spec is not None and not isinstance(spec, Spec | Mapping):
        handover.note(("spec",), f"is of type {type(spec).__name__}, no spec; a network is handed over by model=…")
        handover.check()
    document = spec.document if isinstance(spec, Spec) else None
    base = spec.model_dump(mode="json") if isinstance(spec, Spec) else spec or {}
    laid = {**base, **keys}
    if short:
        laid["search"] = {**(laid.get("search") or {}), **short}
    said = handover.written(laid)
    handover.check()
    if spec is None:
        said = _with_defaults(said)
    said = {"name": _name(laid.get("model"), said.get("model")), **said}
    folder, plugins = (document.folder, document.plugins) if document else (None, None)
    return spec_from_mapping(said, folder=folder, host=host, plugins=plugins or ())


def duration(timeout: str | float | timedelta | None) -> str | float | None:
    """Seconds as a spec writes them; text as it is."""
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    return f"{seconds:f}s" if isinstance(seconds, numbers.Real) and not isinstance(seconds, bool) else seconds


@contextmanager
def as_keywords() -> Iterator[None]:
    """Tell mistakes in what Python gave without a line and a column, of a text that nobody has seen."""
    try:
        yield
    except SpecError as error:
        unseen = [mistake.file == "<spec>" or mistake.file.startswith("--set ") for mistake in error.mistakes]
        if not any(unseen):
            raise
        hidden = [replace(mistake, file=WHERE, line=0, column=0) for mistake in error.mistakes]
        every = zip(error.mistakes, hidden, unseen, strict=True)
        raise SpecError([other if hide else mistake for mistake, other, hide in every]) from error


def _said_over_file(
    file: str | Path, keys: Mapping[str, Any], short: Mapping[str, Any], handover: Handover
) -> dict[str, Any]:
    """Keywords by the keys of a spec's file that they replace."""
    base = read_document(file)[0].data
    section = {**keys.get("search", {}), **short}
    said = handover.written({**keys, "search": section}, base if isinstance(base, Mapping) else None)
    handover.check()
    if "search" in keys:
        return said
    return {**{key: value for key, value in said.items() if key != "search"}} | {
        f"search.{key}": value for key, value in said.get("search", {}).items()
    }


def _with_defaults(said: dict[str, Any]) -> dict[str, Any]:
    """What is measured and sought, where that was left out."""
    if "evaluators" in said:
        return said
    classes = said.get("task", {}).get("use", "classification") == "classification"
    name, direction = ("accuracy", "maximize") if classes else ("loss", "minimize")
    objectives = said.get("objectives", {name: direction, "macs": "minimize"})
    return {**said, "evaluators": [{"use": name}, {"use": "macs"}], "objectives": objectives}


def _name(model: Any, said: Any) -> str:
    """A name for a study of that model."""
    used = said.get("use", "") if isinstance(said, Mapping) else ""
    words = type(model).__name__ if used == LIVE else str(used)
    return re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-").lower()[:_NAME] or "search"


def _override(key: str, value: Any) -> str:
    """A value as ``--set`` takes it; nothing in it is a placeholder."""
    return f"{key}={json.dumps(value).replace('${', '$${')}"
