"""What everything is that a spec names with ``use``: a frozen pydantic model whose fields are its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import ModelWrapValidatorHandler, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from autoprune.spec.fields import Strict


class Component(Strict):
    """Base of everything that a spec names with ``use``."""

    kind: ClassVar[str]
    """What it is to the spec (``scorer``); set by the contracts below."""
    name: ClassVar[str]
    """What the spec says after ``use``; set by each component."""

    @model_validator(mode="wrap")
    @classmethod
    def _of_the_named_class(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Validate ``{use: name, …}`` by the class registered under that name.

        A field annotated with a contract (``recover: Recovery``) so takes any component of that kind. The
        validation context is the lookup: it maps ``(contract, name)`` to a class or raises a ``PydanticCustomError``.
        """
        if not isinstance(data, Mapping) or "use" not in data:
            if isinstance(data, cls) or "name" in vars(cls):
                return handler(data)
            raise PydanticCustomError("component", "name a {kind}: {use: …}", {"kind": cls.kind})
        options = {key: value for key, value in data.items() if key != "use"}
        if "name" in vars(cls):
            return handler(options)
        if info.context is None:
            raise PydanticCustomError("component", "components are looked up through the plugin host")
        concrete: type[Self] = info.context(cls, data["use"])
        return concrete.model_validate(options, context=info.context)

    def reference(self) -> dict[str, Any]:
        """The component as a spec writes it: ``{"use": name, …options}``, JSON types only."""
        return {"use": self.name, **_references(self)}


def _references(component: Component) -> dict[str, Any]:
    plain = component.model_dump(mode="json")
    for key, value in component:
        if isinstance(value, Component):
            plain[key] = value.reference()
        elif isinstance(value, list | tuple) and any(isinstance(each, Component) for each in value):
            plain[key] = [each.reference() if isinstance(each, Component) else each for each in value]
        elif isinstance(value, Mapping) and any(isinstance(each, Component) for each in value.values()):
            plain[key] = {k: each.reference() if isinstance(each, Component) else each for k, each in value.items()}
    return plain
