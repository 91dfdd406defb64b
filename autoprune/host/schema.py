"""The JSON Schema of a spec, with every installed component's options, for editors (the YAML language server)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core import core_schema

from autoprune.host.options import takes_mappings
from autoprune.host.plugins import PluginHost
from autoprune.host.slots import SLOTS
from autoprune.plugin.component import Component
from autoprune.plugin.contracts import Evaluator
from autoprune.plugin.kinds import CONTRACTS, KINDS
from autoprune.spec import Search, Spec
from autoprune.spec.annotations import flat, inside, is_list, is_model
from autoprune.spec.fields import Choose

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

_PLACEHOLDER: Schema = {"type": "string", "pattern": r"\$\{", "description": "Holds ${NAME} or ${NAME:-default}."}


class _Generator(GenerateJsonSchema):
    """Lets an option pass that has no JSON Schema, rather than go without a schema because of one plugin."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012  declared so by the base

    def handle_invalid_for_json_schema(self, schema: core_schema.CoreSchema, error_info: str) -> Schema:  # noqa: ARG002
        return {}


def json_schema(host: PluginHost) -> Schema:
    """A JSON Schema (draft 2020-12) that takes every correct spec and refuses unknown keys and components.

    It is looser than `load_spec` where a schema cannot tell: objectives are suggested, not enforced, because an
    evaluator's label changes the names of its metrics.
    """
    brought: dict[type[Component], dict[str, type[Component]]] = {each: host.components(each) for each in CONTRACTS}
    models: list[type[BaseModel]] = [
        Spec,
        Search,
        Choose,
        *CONTRACTS,
        *(cls for found in brought.values() for cls in found.values()),
    ]
    references, whole = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/$defs/{model}", schema_generator=_Generator
    )
    definitions: dict[str, Schema] = whole["$defs"]

    def definition(model: type[BaseModel]) -> str:
        return str(references[model, "validation"]["$ref"]).removeprefix("#/$defs/")

    for contract, components in brought.items():
        for name, cls in components.items():
            _add_use(definitions[definition(cls)], name, cls)
        definitions[definition(contract)] = {
            "title": contract.kind,
            "description": inspect.getdoc(contract),
            "anyOf": [references[cls, "validation"] for cls in components.values()] or [False],
        }
    contracts = {contract: references[contract, "validation"] for contract in CONTRACTS}
    for kind in KINDS:
        for cls in brought[kind.contract].values() if kind.varies else ():
            _open_options(definitions[definition(cls)]["properties"], cls, contracts)
    for slot, kind in SLOTS.items():
        section = definitions[definition(Spec if len(slot) == 1 else Search)]
        _set_component(section["properties"][slot[-1]], references[kind.contract, "validation"])
    del definitions[definition(Choose)]
    spec = definitions.pop(definition(Spec))
    _suggest_metrics(spec["properties"], definitions, host)
    schema: Schema = _with_placeholders({**spec, "$defs": definitions})
    schema["$defs"]["placeholder"] = _PLACEHOLDER
    return {"$schema": DIALECT, **schema, "title": "autoprune spec"}


def _add_use(schema: Schema, name: str, cls: type[Component]) -> None:
    """Let a component's own schema say which ``use`` it is for."""
    use = {"const": name, "description": inspect.getdoc(cls)}
    schema["properties"] = {"use": use, **schema.get("properties", {})}
    schema["required"] = ["use", *schema.get("required", [])]
    schema["title"] = f"{cls.kind} {name}"
    for option, field in cls.model_fields.items():
        schema["properties"][field.alias or option] |= written_default(field)


def written_default(field: FieldInfo) -> Schema:
    """The default of an option as a spec writes it, where it is or holds components; else nothing."""
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    if isinstance(default, Component):
        return {"default": default.reference()}
    if isinstance(default, list | tuple) and any(isinstance(each, Component) for each in default):
        return {"default": [each.reference() for each in default]}
    return {}


def _set_component(schema: Schema, reference: Schema) -> None:
    """Put the components of a kind where a spec's own schema has any mapping."""
    several = {"type": "array", "items": reference}
    if schema.get("type") == "array":
        there: Schema = {**schema, **several}
    elif "oneOf" in schema:
        there = {"anyOf": [reference, {**several, "minItems": 1}, _choose(reference)]}
    else:
        there = reference
    told = _told(schema)
    schema.clear()
    schema.update({**told, **there})


def _open_options(
    properties: dict[str, Schema], cls: type[Component], contracts: Mapping[type[Component], Schema]
) -> None:
    """Let the search choose any option of a component, unless mappings may stand there anyway."""
    for name, field in cls.model_fields.items():
        kinds = tuple(flat(field.annotation))
        if any(takes_mappings(kind) for kind in kinds):
            continue
        schema = properties[field.alias or name]
        told = _told(schema)
        asked = {key: value for key, value in schema.items() if key not in told}
        if nested := _in_list(kinds, contracts):  # of which one may stand there without the list
            one: Schema = {"anyOf": [nested, _choose(nested)]}
            asked = {"anyOf": [one, {"type": "array", "items": one}]}
        ways = [asked, _choose(asked), *([_between(asked)] if {int, float} & set(kinds) else [])]
        properties[field.alias or name] = {**told, "anyOf": ways}


def _in_list(kinds: Sequence[Any], contracts: Mapping[type[Component], Schema]) -> Schema | None:
    for kind in kinds:
        for item in inside(kind, 0) if is_list(kind) else ():
            if is_model(item) and issubclass(item, Component):
                return next(schema for contract, schema in contracts.items() if issubclass(item, contract))
    return None


def _choose(schema: Schema) -> Schema:
    several = {"type": "array", "items": schema, "minItems": 2}
    return _closed({"choose": several}, required=["choose"])


def _between(schema: Schema) -> Schema:
    return _closed({"low": schema, "high": schema, "log": {"type": "boolean"}}, required=["low", "high"])


def _closed(properties: Schema, required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _suggest_metrics(properties: dict[str, Schema], definitions: dict[str, Schema], host: PluginHost) -> None:
    """Offer the metrics of all known evaluators as keys, with what they mean."""
    evaluators = host.components(Evaluator)  # type: ignore[type-abstract]
    metrics = {metric.name: metric for cls in evaluators.values() for metric in cls.metrics}
    for section, definition in (("objectives", "direction"), ("constraints", "bound")):
        definitions[definition] = properties[section]["additionalProperties"]
        reference = {"$ref": f"#/$defs/{definition}"}
        properties[section]["additionalProperties"] = reference
        properties[section]["properties"] = {
            name: {**reference, "description": f"{metric.description} [{metric.unit}]".strip()}
            for name, metric in sorted(metrics.items())
        }


def _with_placeholders(schema: Any) -> Any:
    """Allow ``${NAME}`` wherever something narrower than text is asked for."""
    if isinstance(schema, list):
        return [_with_placeholders(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    narrow = schema.get("type") == "string" and {"enum", "pattern"} & schema.keys()
    if narrow or schema.get("type") in ("integer", "number", "boolean"):
        told = _told(schema)
        asked = {key: value for key, value in schema.items() if key not in told}
        return {**told, "anyOf": [asked, {"$ref": "#/$defs/placeholder"}]}
    return {key: value if key in ("default", "const") else _with_placeholders(value) for key, value in schema.items()}


def _told(schema: Mapping[str, Any]) -> Schema:
    """What a schema tells people rather than machines."""
    return {key: value for key, value in schema.items() if key in ("title", "description", "default")}
