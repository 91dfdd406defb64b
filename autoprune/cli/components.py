"""A component's options and metrics, as data and in words."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args

from autoprune.api.printed import table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from autoprune.plugin import Component, Evaluator, Need

_TYPES = {"string": "text", "boolean": "true or false", "object": "mapping", "array": "list"}
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def described(component: type[Component]) -> dict[str, Any]:
    """Everything that a user of the component needs to know; JSON types only."""
    from autoprune.host.schema import written_default
    from autoprune.plugin import Evaluator

    schema = component.model_json_schema()
    options = []
    for name, field in component.model_fields.items():
        own = schema["properties"][field.alias or name]
        options.append(
            {
                "name": field.alias or name,
                "type": _type(own, schema.get("$defs", {})),
                "required": field.is_required(),
                "default": written_default(field).get("default", own.get("default")),
                "description": field.description or "",
            }
        )
    metrics = component.metrics if issubclass(component, Evaluator) else ()
    needs = {"needs": needed(component)} if issubclass(component, Evaluator) else {}
    return {
        "kind": component.kind,
        "name": component.name,
        "description": inspect.getdoc(component) or "",
        "options": options,
        "metrics": [
            {
                "name": metric.name,
                "unit": metric.unit,
                "direction": metric.direction,
                "cost": metric.cost.name.lower(),
                "description": metric.description,
            }
            for metric in metrics
        ],
        **needs,
    }


def needed(evaluator: type[Evaluator]) -> list[Need]:
    """What an evaluator needs, in the order in which it is hard to have."""
    from autoprune.plugin.contracts import Need

    return [need for need in get_args(Need) if need in evaluator.needs]


def texts(document: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A description for people."""
    plugin = document["plugin"]
    origin = plugin["file"] or f"{plugin['distribution']} {plugin['version']}"
    yield f"{document['kind']} {document['name']}, from {origin}"
    yield document["description"] + "\n"
    if document["options"]:
        options = table("option", "type", "default", "description")
        for option in document["options"]:
            default = "(required)" if option["required"] else json.dumps(option["default"], ensure_ascii=False)
            options.add_row(option["name"], option["type"], default, option["description"])
        yield options
    else:
        yield "It takes no options."
    if document["metrics"]:
        metrics = table("metric", "unit", "better", "cost", "description")
        for metric in document["metrics"]:
            better = "higher" if metric["direction"] == "maximize" else "lower"
            metrics.add_row(metric["name"], metric["unit"], better, metric["cost"], metric["description"])
        yield metrics
    elif document["kind"] == "evaluator":
        yield "Its metrics hang on its options or on the data."
    if document["kind"] == "evaluator":
        yield f"It needs {', '.join(document['needs']) or 'no data: it is arithmetic alone'}."


def _type(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(each, definitions) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(str(value) for value in schema["enum"])
    if "$ref" in schema:
        target = str(schema["$ref"]).rpartition("/")[2]
        properties = definitions.get(target, {}).get("properties")
        return f"{{{', '.join(properties)}}}" if properties else target.lower()
    kind = str(schema.get("type", "anything"))
    kind = f"list of {_type(schema['items'], definitions)}" if kind == "array" and "items" in schema else kind
    bounds = " and".join(f" {sign} {schema[key]}" for key, sign in _BOUNDS.items() if key in schema)
    return _TYPES.get(kind, kind) + bounds
