"""What evaluators make, against what objectives and constraints ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from autoprune.errors import Mistake, dotted
from autoprune.host.components import Components
from autoprune.host.plugins import PluginHost
from autoprune.host.variables import Variable
from autoprune.plugin.contracts import Evaluator
from autoprune.plugin.data import Data
from autoprune.spec import Document, Spec, near, nearest
from autoprune.spec.document import KeyPath
from autoprune.spec.mistakes import MOST_TOLD

_SECTIONS = ("objectives", "constraints")
_LATE = "its evaluator measures the front's members alone, when nothing can be searched any more: leave out front: true"


def check_metrics(spec: Spec, components: Components, data: Data) -> list[Mistake]:
    """Metrics that two evaluators make, and objectives and constraints on metrics that none makes, the data at hand.

    Args:
        spec: The study's.
        components: Its components.
        data: What evaluators may have to see to tell their metrics.
    """
    evaluators = {path: variable.component for path, variable in components.found.items() if path[0] == "evaluators"}
    makers = {path: [metric.name for metric in each.produces(data)] for path, each in evaluators.items()}
    made = {name for names in makers.values() for name in names}
    nobodys = [(section, name) for section in _SECTIONS for name in getattr(spec, section) if name not in made]
    late = {name for path, names in makers.items() if evaluators[path].front for name in names}
    return [
        *_made_twice(makers, spec.document, lambda path: evaluators[path].name),
        *_searched_late({section: getattr(spec, section) for section in _SECTIONS}, late, spec.document),
        *(
            spec.document.mistake(at, f"no evaluator makes this metric{near(at[1], made) if n < MOST_TOLD else ''}")
            for n, at in enumerate(nobodys)
        ),
    ]


def metric_mistakes(
    data: Mapping[str, Any], found: Mapping[KeyPath, Variable[Any]], document: Document, host: PluginHost
) -> Iterator[Mistake]:
    """The same as far as the spec tells: an evaluator that is unknown, or has to see the data, may make anything.

    Args:
        data: A whole spec or one with mistakes.
        found: Its components, as far as they could be built.
        document: Where the data stands.
        host: Knows the evaluators.
    """
    evaluators = data.get("evaluators")
    listed = evaluators if isinstance(evaluators, list) else []
    makers: dict[KeyPath, list[str]] = {}
    unsure, later = not isinstance(evaluators, list), False
    for index, reference in enumerate(listed):
        path = ("evaluators", index)
        makers[path], known = _told(reference, found.get(path), host)
        unsure |= not known
        later |= known and not makers[path]
    yield from _made_twice(makers, document, lambda path: listed[path[1]]["use"])
    fronts = [path for path in makers if (variable := found.get(path)) is not None and variable.component.front]
    yield from _searched_late(data, {name for path in fronts for name in makers[path]}, document)
    if later:
        return
    made = {name for names in makers.values() for name in names}
    offered = {metric.name: name for name, cls in _evaluators(host).items() for metric in cls.metrics}
    told = 0
    left_out = any(plugin.error for plugin in host.plugins)
    for section in _SECTIONS:
        wanted = data.get(section)
        for name in wanted if isinstance(wanted, Mapping) else ():
            if name in made or (unsure and (left_out or name.startswith(tuple(offered)))):
                continue
            told += 1
            hint = _hint(name, made, offered) if told <= MOST_TOLD else ""
            yield document.mistake((section, name), f"no evaluator makes this metric{hint}")


def _searched_late(sections: Mapping[str, Any], late: set[str], document: Document) -> Iterator[Mistake]:
    """Objectives and constraints on what is measured of the front's members alone."""
    for section in _SECTIONS:
        wanted = sections.get(section)
        for name in wanted if isinstance(wanted, Mapping) else ():
            if name in late:
                yield document.mistake((section, name), _LATE)


def _hint(name: str, made: set[str], offered: Mapping[str, str]) -> str:
    if name in offered:
        return f"; add {{use: {offered[name]}}} to evaluators"
    meant = nearest(name, made) or nearest(name, offered)
    return f"; did you mean {meant!r}?" if meant else near(name, made)


def _made_twice(makers: Mapping[KeyPath, Sequence[str]], document: Document, called: Any) -> Iterator[Mistake]:
    firsts: dict[str, KeyPath] = {}
    for path, metrics in makers.items():
        twice: dict[KeyPath, list[str]] = {}
        for metric in metrics:
            if (first := firsts.setdefault(metric, path)) != path:
                twice.setdefault(first, []).append(metric)
        for first, names in twice.items():
            what = f"makes {', '.join(names)}, as {dotted(first)} does"
            yield document.mistake(path, f"{what}; give one of them a label: {{use: {called(path)}, label: …}}")


def _told(reference: Any, variable: Variable[Any] | None, host: PluginHost) -> tuple[list[str], bool]:
    """The metrics that an evaluator makes, even if its options are wrong; and whether it is known at all."""
    if variable is not None:
        return [metric.name for metric in variable.component.produces()], True
    name = reference.get("use") if isinstance(reference, Mapping) else None
    cls = _evaluators(host).get(str(name))
    label = f"_{reference['label']}" if cls and reference.get("label") else ""
    return ([f"{metric.name}{label}" for metric in cls.metrics], True) if cls else ([], False)


def _evaluators(host: PluginHost) -> dict[str, type[Evaluator]]:
    return host.components(Evaluator)  # type: ignore[type-abstract]
