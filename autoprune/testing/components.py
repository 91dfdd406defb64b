"""What holds for every component, whatever its kind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from autoprune.plugin import Component
from autoprune.testing.bench import Bench


class ComponentConformance:
    """Tests of a component's options. Subclass one of the kinds' kits, not this."""

    contract: ClassVar[type[Component]] = Component

    @pytest.fixture
    def component(self) -> Component:
        """The component to test: override this."""
        raise NotImplementedError(f"{type(self).__name__} has to override the fixture `component`")

    def test_it_is_a_component_with_a_name(self, component: Component) -> None:
        """It derives from its contract, and its name is what a spec can say after ``use``."""
        assert isinstance(component, self.contract), f"{component!r} is no {self.contract.__name__}"
        name = vars(type(component)).get("name")
        assert isinstance(name, str), f"{type(component).__name__} has no name of its own"
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name), f"{name!r}: write names in lower case, with hyphens"

    def test_it_is_described(self, component: Component) -> None:
        """`autoprune plugins show` has something to show: a docstring, and a description of each option."""
        assert type(component).__doc__, f"{type(component).__name__} has no docstring"
        plain = [name for name, field in type(component).model_fields.items() if not field.description]
        assert not plain, f"options without a description: {', '.join(plain)}"

    def test_it_comes_back_from_its_reference(self, component: Component) -> None:
        """What a study stores of it, JSON, makes the same component again."""
        reference = json.loads(json.dumps(component.reference()))
        known = {(type(c).kind, type(c).name): type(c) for c in _with_nested(component)}
        again = type(component).model_validate(reference, context=lambda contract, name: known[contract.kind, name])
        assert again == component
        assert again.reference() == component.reference()

    def test_it_refuses_unknown_options(self, component: Component) -> None:
        """A misspelt option is an error, never ignored."""
        options = {key: value for key, value in component.reference().items() if key != "use"}
        with pytest.raises(ValidationError):
            type(component).model_validate({**options, "no_such_option": 1})

    def test_it_cannot_be_changed(self, component: Component) -> None:
        """Components are frozen: a search may share one among trials."""
        fields: list[Any] = list(type(component).model_fields)
        with pytest.raises((ValidationError, AttributeError)):
            setattr(component, fields[0] if fields else "anything", None)


class BenchConformance(ComponentConformance):
    """Tests that run the component on a dense network and its data."""

    @pytest.fixture
    def bench(self) -> Bench:
        """A bench with the toys, new for each test; override it where the component needs another network."""
        return Bench()


def _with_nested(component: Component) -> Iterator[Component]:
    yield component
    for _, value in component:
        several = value.values() if isinstance(value, Mapping) else value
        for each in several if isinstance(value, list | tuple | Mapping) else (value,):
            if isinstance(each, Component):
                yield from _with_nested(each)
