"""Finds the options of a reference that are left for the search to choose, and reads what it may choose."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from autoprune.host.slots import kind_of
from autoprune.host.variables import Open
from autoprune.plugin.component import Component
from autoprune.plugin.knobs import Choice, Knob, Range
from autoprune.spec.annotations import inside, is_list, is_model
from autoprune.spec.document import KeyPath
from autoprune.spec.fields import Strict

Concrete = Callable[[type[BaseModel], Any], type[BaseModel]]
_SIGNS = ("choose", "low", "high")


class _Form(Strict):
    model_config = ConfigDict(allow_inf_nan=False)


class _Chosen(_Form):
    choose: list[Any]


class _Between(_Form):
    low: float
    high: float
    log: bool = False


class Opener:
    """Finds the open options of one reference."""

    def __init__(self, concrete: Concrete) -> None:
        """Classes are looked up by ``concrete``."""
        self._concrete = concrete
        self.faults: list[tuple[KeyPath, str]] = []
        """What is wrong with the form of open options, and where in the document."""
        self.malformed: list[tuple[KeyPath, type[BaseModel], Any, ValidationError]] = []
        """The same, as validation told it: path, model, data, error."""

    def component(self, contract: type[BaseModel], node: Any, path: KeyPath, name: str, *, varies: bool = True) -> Any:
        """A reference with an `Open` in place of each open option.

        Args:
            contract: What the reference is to name.
            node: The reference.
            path: Where it stands in the document.
            name: Where it stands in the names of knobs.
            varies: Whether the search may choose what is around it.
        """
        cls = self._concrete(contract, node)
        if not issubclass(cls, Component) or "name" not in vars(cls):
            return node
        fixed = None if varies and kind_of(cls).varies else cls
        return {
            key: self._option(tuple(inside(cls, key)), value, (*path, key), f"{name}.{key}", fixed)
            for key, value in node.items()
        }

    def _option(self, kinds: Sequence[Any], node: Any, path: KeyPath, name: str, fixed: type[Component] | None) -> Any:
        if is_open(kinds, node):
            if fixed is None:
                return self._opened(kinds, node, path, name)
            what = f"options of the {fixed.kind} are not for the search to choose: its trials could not be compared"
            self.faults.append((path, f"{what}; write one value"))
            return node
        contracts = [each for kind in kinds for each in _with_items(kind) if is_model(each)]
        nested = next((each for each in contracts if issubclass(each, Component)), None)
        if nested is None:
            return node
        if isinstance(node, Mapping) and "use" in node:
            return self.component(nested, node, path, name, varies=fixed is None)
        if isinstance(node, list):
            names = [f"{name}.{i}" if len(node) > 1 else name for i in range(len(node))]
            return [self._option((nested,), each, (*path, i), names[i], fixed) for i, each in enumerate(node)]
        return node

    def _opened(self, kinds: Sequence[Any], node: Mapping[str, Any], path: KeyPath, name: str) -> Any:
        form = _Chosen if "choose" in node else _Between
        try:
            form.model_validate(node)
            if "choose" in node:
                given = node["choose"]
                knob: Knob = Choice(name, tuple(_labels(given)))
                at = [((*path, "choose", i), f"{name}.{i}") for i in range(len(given))]
                return Open(knob, tuple(self._option(kinds, each, *at[i], None) for i, each in enumerate(given)))
            if not {int, float} & set(kinds):
                raise ValueError("a range is for numbers; write {choose: […]}")
            bounds, whole = {key: float(node[key]) for key in ("low", "high")}, float not in kinds
            if broken := [key for key, bound in bounds.items() if whole and not bound.is_integer()]:
                self.faults += [((*path, key), f"must be a whole number, not {node[key]}") for key in broken]
                return node
            return Open(Range(name, **bounds, log=node.get("log", False), whole=whole))
        except ValidationError as error:
            self.malformed.append((path, form, node, error))
        except ValueError as error:
            self.faults.append((path, str(error).removeprefix(f"{name}: ")))
        return node


def is_open(kinds: Sequence[Any], node: Any) -> bool:
    """Whether an option of these types is written as a choice or a range, and is not a mapping with such keys."""
    if not kinds or not isinstance(node, Mapping) or "use" in node or not set(_SIGNS) & set(node):
        return False
    return not any(takes_mappings(kind) for kind in kinds)


def takes_mappings(kind: Any) -> bool:
    """Whether a value of that type may be a mapping with the keys of a choice or a range."""
    if is_model(kind):
        return not issubclass(kind, Component) and bool(set(_SIGNS) & set(kind.model_fields))
    origin = getattr(kind, "__origin__", kind)
    return origin in (Any, object) or (isinstance(origin, type) and issubclass(origin, Mapping))


def _with_items(kind: Any) -> Iterator[Any]:
    yield kind
    if is_list(kind):
        yield from inside(kind, 0)


def _labels(given: Sequence[Any]) -> list[str]:
    """What each of several is called; with its options where a name stands more than once."""
    short = [_label(each, options=False) for each in given]
    return [_label(each, options=short.count(label) > 1) for each, label in zip(given, short, strict=True)]


def _label(value: Any, *, options: bool) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and "use" in value:
        told = ", ".join(f"{key}={_label(each, options=True)}" for key, each in value.items() if key != "use")
        return f"{value['use']}({told})" if options and told else str(value["use"])
    if isinstance(value, list):
        return " + ".join(_label(each, options=options) for each in value) or "[]"
    return json.dumps(value)
