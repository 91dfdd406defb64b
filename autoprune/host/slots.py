"""Where a spec names components, of which kind, and which ones: derived from the one table of kinds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from autoprune.plugin.component import Component
from autoprune.plugin.kinds import KINDS, Kind
from autoprune.spec import Spec
from autoprune.spec.document import KeyPath

SLOTS: dict[tuple[str, ...], Kind] = {kind.slot: kind for kind in KINDS if kind.slot is not None}
"""Keys of the spec to the kind that it names there."""


def kind_of(component: type[Component]) -> Kind:
    """The kind of a component, or of a contract.

    Raises:
        KeyError: It is of none.
    """
    for kind in KINDS:
        if issubclass(component, kind.contract):
            return kind
    raise KeyError(component)


def slot_field(slot: tuple[str, ...]) -> FieldInfo:
    """The spec's own field for a slot: what may stand there, and what does if the spec is silent."""
    model: Any = Spec
    for part in slot[:-1]:
        model = model.model_fields[part].annotation
    field: FieldInfo = model.model_fields[slot[-1]]
    return field


def chooses(node: Any) -> bool:
    """Whether what stands in a slot is ``{choose: […]}``."""
    return isinstance(node, Mapping) and "choose" in node and "use" not in node


def written(data: Mapping[str, Any], slot: tuple[str, ...]) -> tuple[Any, KeyPath]:
    """What stands in a slot, or else its default; and where in the document. Nothing where there is neither."""
    node: Any = data
    for part in slot:
        if not isinstance(node, Mapping):
            return None, slot
        if part not in node:
            default = slot_field(slot).get_default(call_default_factory=True)
            return (None if default is PydanticUndefined else default), slot
        node = node[part]
    return node, slot


def references(data: Mapping[str, Any], slot: tuple[str, ...]) -> Iterator[tuple[KeyPath, str, dict[str, Any]]]:
    """The well-formed references in a slot: path in the document, path in the names of knobs, reference."""
    node, path = written(data, slot)
    if chooses(node):
        node, path = node["choose"], (*path, "choose")
    items = [((*path, i), item) for i, item in enumerate(node)] if isinstance(node, list) else [(path, node)]
    name = ".".join(slot)
    for number, (at, item) in enumerate(items):
        if isinstance(item, dict) and isinstance(item.get("use"), str):
            yield at, f"{name}.{number}" if len(items) > 1 else name, item
