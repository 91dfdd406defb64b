"""From a spec's file to a checked spec, and from a spec to its components.

Everything that can be told without the data and the model is told here, all at once: the form of the file, its
structure, every component's options, and whether objectives have an evaluator that makes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError, PydanticSerializationError, to_jsonable_python

from autoprune.errors import Mistake, SpecError, dotted
from autoprune.host.plugins import PluginHost
from autoprune.plugin.contracts import Component, DataSource, Evaluator, ModelSource, Sampler, Scorer, Strategy
from autoprune.plugin.values import Metric
from autoprune.spec import (
    Document,
    Search,
    Spec,
    mistakes_of,
    near,
    nearest,
    parse,
    read_document,
    read_text,
    write_text,
)
from autoprune.spec.document import KeyPath

SLOTS: dict[KeyPath, type[Component]] = {
    ("model",): ModelSource,
    ("data",): DataSource,
    ("scorer",): Scorer,
    ("strategy",): Strategy,
    ("evaluators",): Evaluator,
    ("search", "sampler"): Sampler,
}
"""Where a spec names components, and of which kind."""

_DEFAULTS: dict[KeyPath, Any] = {
    ("scorer",): Spec.model_fields["scorer"].default,
    ("strategy",): Spec.model_fields["strategy"].default,
    ("search", "sampler"): Search.model_fields["sampler"].default,
}


@dataclass(frozen=True)
class Components:
    """What a spec names."""

    model: ModelSource
    data: DataSource
    scorers: tuple[Scorer, ...]
    strategies: tuple[Strategy, ...]
    evaluators: tuple[Evaluator, ...]
    """Cheapest first."""
    sampler: Sampler
    metrics: dict[str, Metric]
    """Everything the evaluators make, by the names that objectives use."""


def load_spec(
    path: str | Path,
    *,
    overrides: Sequence[str] = (),
    host: PluginHost | None = None,
    folder: Path | None = None,
) -> Spec:
    """Read and check a spec's file. Loads neither torch nor the data.

    Args:
        path: The YAML file.
        overrides: ``path.to.key=value`` to lay over it, as ``--set`` takes them.
        host: Looks components up; the installed plugins if None.
        folder: Where the spec's relative paths start; the file's folder if None.

    Raises:
        SpecError: Anything is wrong; carries every mistake.
    """
    document, mistakes = read_document(path, overrides, folder=folder)
    return _checked(document, mistakes, host or PluginHost())


def spec_from_mapping(
    mapping: Mapping[str, Any], *, folder: Path | None = None, host: PluginHost | None = None
) -> Spec:
    """Check a spec that is written in Python; its document's text is the same spec in YAML.

    Args:
        mapping: What a spec's file would hold.
        folder: Where relative paths start; the current folder if None.
        host: Looks components up; the installed plugins if None.

    Raises:
        SpecError: Anything is wrong; carries every mistake.
    """
    try:
        text = write_text(to_jsonable_python(mapping))
    except PydanticSerializationError as error:
        raise SpecError([Mistake((), f"holds what a spec cannot say: {error}")]) from error
    return _checked(*read_text(text, folder=folder), host or PluginHost())


def bind(spec: Spec, host: PluginHost) -> Components:
    """Look up and build the components that a spec names.

    Raises:
        SpecError: A component is unknown or its options are wrong, or an objective has no evaluator.
    """
    found, mistakes = _look_up(spec.model_dump(), spec.document, host)
    if mistakes:
        raise SpecError(mistakes)

    def at(*slot: str) -> tuple[Any, ...]:
        return tuple(component for path, component in found.items() if path[: len(slot)] == slot)

    evaluators = cast("tuple[Evaluator, ...]", at("evaluators"))
    return Components(
        model=at("model")[0],
        data=at("data")[0],
        scorers=at("scorer"),
        strategies=at("strategy"),
        evaluators=tuple(sorted(evaluators, key=lambda e: max(metric.cost for metric in e.metrics))),
        sampler=at("search", "sampler")[0],
        metrics={metric.name: metric for evaluator in evaluators for metric in evaluator.produces()},
    )


def spec_hash(spec: Spec) -> str:
    """SHA-256 of what the spec says, defaults filled in; the same however the file is laid out.

    The order of keys counts where it has a meaning: for the patterns of groups and for the objectives.
    """
    plain = spec.model_dump(mode="json")
    plain["search_space"]["groups"] = list(plain["search_space"]["groups"].items())
    plain["objectives"] = list(plain["objectives"].items())
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _checked(document: Document, mistakes: list[Mistake], host: PluginHost) -> Spec:
    spec, structural = parse(document)
    mistakes = [*mistakes, *structural]
    if document.data is not None:
        mistakes += _look_up(document.data, document, host)[1]
    if spec is None or mistakes:
        raise SpecError(mistakes)
    return spec


def _look_up(
    data: Mapping[str, Any], document: Document, host: PluginHost
) -> tuple[dict[KeyPath, Component], list[Mistake]]:
    """Build whatever components can be read in the data, be it a whole spec or one with mistakes elsewhere."""
    found: dict[KeyPath, Component] = {}
    mistakes: list[Mistake] = []
    for slot, contract in SLOTS.items():
        for path, reference in _references(data, slot):
            try:
                component = contract.model_validate(reference, context=host)
                if isinstance(component, Evaluator):
                    component.produces()  # may fail as well as its validators, and is needed below
                found[path] = component
            except ValidationError as error:
                mistakes += mistakes_of(
                    error,
                    document,
                    data=reference,
                    model=contract,
                    at=path,
                    concrete=lambda c, d: _concrete(host, c, d),
                )
            except Exception as error:  # noqa: BLE001  a plugin's own validator may fail in any way
                fault = f"{reference['use']} fails on these options: {type(error).__name__}: {error}"
                mistakes.append(document.mistake(path, fault))
    mistakes += _check_metrics(data, found, document, host)
    return found, mistakes


def _references(data: Mapping[str, Any], slot: KeyPath) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """The well-formed references of a slot; the default where there is none at all."""
    node: Any = data
    for part in slot:
        if not isinstance(node, Mapping):
            return
        if part not in node:
            node = _DEFAULTS.get(slot)
            break
        node = node[part]
    items = [((*slot, i), item) for i, item in enumerate(node)] if isinstance(node, list) else [(slot, node)]
    for path, item in items:
        if isinstance(item, dict) and isinstance(item.get("use"), str):
            yield path, item


def _concrete(host: PluginHost, model: type[BaseModel], data: Any) -> type[BaseModel]:
    if not issubclass(model, Component) or "name" in vars(model) or not isinstance(data, Mapping):
        return model
    try:
        return host(model, data.get("use"))
    except PydanticCustomError:
        return model


def _check_metrics(
    data: Mapping[str, Any], found: Mapping[KeyPath, Component], document: Document, host: PluginHost
) -> Iterator[Mistake]:
    """Metrics that two evaluators make, and objectives and constraints on metrics that none makes."""
    evaluators = data.get("evaluators")
    makers: dict[str, KeyPath] = {}
    unsure = not isinstance(evaluators, list)
    for index, reference in enumerate(evaluators if isinstance(evaluators, list) else ()):
        path = ("evaluators", index)
        metrics = _metrics(reference, found.get(path), host)
        unsure |= not metrics
        twice: dict[KeyPath, list[str]] = {}
        for metric in metrics:
            if (first := makers.setdefault(metric, path)) != path:
                twice.setdefault(first, []).append(metric)
        for first, names in twice.items():
            what = f"makes {', '.join(names)}, as {dotted(first)} does"
            yield document.mistake(path, f"{what}; give one of them a label: {{use: {reference['use']}, label: …}}")
    known = {metric.name: name for name, cls in _evaluators(host).items() for metric in cls.metrics}
    left_out = any(plugin.error for plugin in host.plugins)
    for section in ("objectives", "constraints"):
        wanted = data.get(section)
        for name in wanted if isinstance(wanted, Mapping) else ():
            if name in makers or (unsure and (left_out or name.startswith(tuple(known)))):
                continue
            meant = nearest(name, makers) or nearest(name, known)
            hint = f"; did you mean {meant!r}?" if meant else near(name, makers)
            if name in known:
                hint = f"; add {{use: {known[name]}}} to evaluators"
            yield document.mistake((section, name), f"no evaluator makes this metric{hint}")


def _metrics(reference: Any, evaluator: Component | None, host: PluginHost) -> list[str]:
    """The metrics that an evaluator makes, even if its options are wrong; none if it is unknown."""
    if isinstance(evaluator, Evaluator):
        return [metric.name for metric in evaluator.produces()]
    name = reference.get("use") if isinstance(reference, Mapping) else None
    cls = _evaluators(host).get(str(name))
    label = f"_{reference['label']}" if cls and reference.get("label") else ""
    return [f"{metric.name}{label}" for metric in cls.metrics] if cls else []


def _evaluators(host: PluginHost) -> dict[str, type[Evaluator]]:
    return host.components(Evaluator)  # type: ignore[type-abstract]
