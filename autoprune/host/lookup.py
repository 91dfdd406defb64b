"""From the references in a spec to components, with every mistake at its place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError, PydanticSerializationError

from autoprune.errors import Mistake, TrialError
from autoprune.host.options import Opener
from autoprune.host.plugins import PluginHost
from autoprune.host.slots import SLOTS, references
from autoprune.host.variables import Open, Variable, alternatives, fill, place
from autoprune.plugin.component import Component
from autoprune.plugin.contracts import Evaluator
from autoprune.plugin.knobs import Choices
from autoprune.spec import Document, mistakes_of
from autoprune.spec.document import KeyPath


@dataclass
class Found:
    """What a spec's references come to."""

    variables: dict[KeyPath, Variable[Any]] = field(default_factory=dict)
    """By where they stand in the document."""
    mistakes: list[Mistake] = field(default_factory=list)


def look_up(data: Mapping[str, Any], document: Document, host: PluginHost) -> Found:
    """Build whatever components can be read in the data, be it a whole spec or one with mistakes elsewhere."""
    found = Found()
    for slot, kind in SLOTS.items():
        for path, name, reference in references(data, slot):
            reader = _Reader(kind.contract, reference, path, document, host)
            if (variable := reader.read(name)) is not None:
                found.variables[path] = variable
            found.mistakes += dict.fromkeys(reader.mistakes)
    return found


class _Reader:
    """Reads one reference."""

    def __init__(
        self,
        contract: type[Component],
        reference: Mapping[str, Any],
        path: KeyPath,
        document: Document,
        host: PluginHost,
    ) -> None:
        self.mistakes: list[Mistake] = []
        self._contract = contract
        self._reference = reference
        self._path = path
        self._document = document
        self._host = host

    def read(self, name: str) -> Variable[Any] | None:
        """The component with its knobs; None if there is anything wrong with it."""
        opener = Opener(self._concrete)
        template = opener.component(self._contract, self._reference, self._path, name)
        for at, message in opener.faults:
            self._note(at, message)
        for at, form, node, error in opener.malformed:
            self._read_errors(error, node, form, lambda path, at=at: (*at, *path))
        if self.mistakes:
            return None
        component = self._validated(template, {})
        knobs = {}
        for option, choices in alternatives(template):
            knobs[option.knob.name] = option.knob
            self._check(template, option, choices)
        if component is None or self.mistakes:
            return None
        if not knobs:
            return Variable(component)
        return Variable(component, tuple(knobs.values()), partial(_made, self._contract, template, self._host))

    def _check(self, template: Any, option: Open, choices: Choices) -> None:
        """Look at one alternative of an open option; what is wrong without it, too, is not told again."""
        earlier = self.mistakes
        self.mistakes = []
        self._validated(template, choices)
        at = next(path for path, each in _opened(template, choices, self._path) if each is option)
        inner = [mistake for mistake in self.mistakes if mistake.path[: len(at)] == at]
        if not earlier and not inner:
            inner = [self._document.mistake(at, mistake.message) for mistake in self.mistakes]
        self.mistakes = [*earlier, *inner]

    def _validated(self, template: Any, choices: Choices) -> Component | None:
        data = fill(template, choices)
        try:
            component = self._contract.model_validate(data, context=self._host)
            if isinstance(component, Evaluator):
                component.produces()  # may fail as well as its validators, and is needed later
            for at, message in _not_json(component, self._host):
                self._note((*self._path, *place(template, choices, at)), message)
        except ValidationError as error:
            self._read_errors(error, data, self._contract, lambda path: (*self._path, *place(template, choices, path)))
        except Exception as error:  # noqa: BLE001  a plugin's own validator may fail in any way
            fault = f"{data['use']} fails on these options: {type(error).__name__}: {error}"
            self._note(self._path, fault)
        else:
            return component
        return None

    def _read_errors(self, error: ValidationError, data: Any, model: type[BaseModel], at: Any) -> None:
        self.mistakes += mistakes_of(error, self._document, data=data, model=model, place=at, concrete=self._concrete)

    def _note(self, path: KeyPath, message: str) -> None:
        self.mistakes.append(self._document.mistake(path, message))

    def _concrete(self, model: type[BaseModel], data: Any) -> type[BaseModel]:
        if not issubclass(model, Component) or "name" in vars(model) or not isinstance(data, Mapping):
            return model
        try:
            return self._host(model, data.get("use"))
        except PydanticCustomError:
            return model


def _made(contract: type[Component], template: Any, host: PluginHost, choices: Choices) -> Component:
    """A component with chosen options.

    Raises:
        TrialError: It refuses them.
    """
    data = fill(template, choices)
    try:
        return contract.model_validate(data, context=host)
    except ValidationError as error:
        told = mistakes_of(error, Document(data=data), data=data, model=contract)
        reason = "; ".join(f"{'.'.join(map(str, each.path)) or 'options'}: {each.message}" for each in told)
        raise TrialError(f"{contract.kind} {data['use']} does not take what was chosen together: {reason}") from error


def _is_several(value: object) -> bool:
    return isinstance(value, list | tuple | Mapping)


def _opened(template: Any, choices: Choices, path: KeyPath) -> Iterator[tuple[KeyPath, Open]]:
    """The open options that these choices lead through, and where in the document what was chosen stands."""
    if isinstance(template, Open):
        step, taken = template.taken(choices)
        yield (*path, *step), template
        yield from _opened(taken, choices, (*path, *step))
    elif isinstance(template, Mapping | list):
        for key, value in template.items() if isinstance(template, Mapping) else enumerate(template):
            yield from _opened(value, choices, (*path, cast("Any", key)))


def _not_json(component: Component, host: PluginHost) -> Iterator[tuple[KeyPath, str]]:
    """An option that a study could not keep or hand to its workers: where it stands in the component, and why."""
    for name, value in component:
        several = tuple(value.values() if isinstance(value, Mapping) else value) if _is_several(value) else (value,)
        for at, message in (
            each for nested in several if isinstance(nested, Component) for each in _not_json(nested, host)
        ):
            yield (name, *at), message
            return
        try:
            json.dumps(component.model_dump(mode="json", include={name}))
        except (PydanticSerializationError, TypeError, ValueError) as error:
            yield (name,), f"has no JSON form, in which a study keeps it and hands it to workers: {error}"
            return
    kept = json.loads(json.dumps(component.reference()))
    lost = "does not come back from its JSON form, in which a study keeps it and hands it to workers"
    try:
        again = type(component).model_validate({k: v for k, v in kept.items() if k != "use"}, context=host)
    except ValidationError as error:
        first = error.errors()[0]
        yield first["loc"][:1], f"{lost}: {first['msg']}"
        return
    for name, value in component:
        if getattr(again, name) != value:
            yield (name,), f"{lost}: {json.dumps(kept.get(name))}"
            return
