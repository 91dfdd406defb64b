"""One table of kinds: what follows from it, for each of them."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from autoprune.errors import SpecError
from autoprune.host.binding import bind, spec_from_mapping
from autoprune.host.schema import json_schema
from autoprune.host.slots import SLOTS, kind_of, slot_field
from autoprune.plugin import contracts
from autoprune.plugin.component import Component
from autoprune.plugin.kinds import CONTRACTS, KINDS, Kind
from autoprune.spec import read_text

from ..spec.broken_specs import GOOD
from .toys import COMPONENTS, toy_host

HOST = toy_host()
VALIDATOR = jsonschema.Draft202012Validator(json_schema(HOST))
WITH_SLOT = [kind for kind in KINDS if kind.slot is not None]


def named(kind: Kind) -> str:
    return kind.contract.__name__


def with_in_slot(kind: Kind, reference: dict[str, Any]) -> dict[str, Any]:
    """The good spec with that reference where the kind is named."""
    assert kind.slot is not None
    data = read_text(GOOD)[0].data
    node = data
    for part in kind.slot[:-1]:
        node = node.setdefault(part, {})
    many = isinstance(node.get(kind.slot[-1], slot_field(kind.slot).default), list)
    node[kind.slot[-1]] = [reference] if many and kind.slot != ("scorer",) else reference
    return data


def test_every_contract_is_in_the_table_once() -> None:
    direct = {cls for cls in vars(contracts).values() if isinstance(cls, type) and Component in cls.__bases__}
    assert direct < set(CONTRACTS), "all of the contracts' module, and the task"
    assert len({kind.contract.kind for kind in KINDS}) == len(KINDS) == len(CONTRACTS)
    assert [kind_of(kind.contract) for kind in KINDS] == list(KINDS)


@pytest.mark.parametrize("kind", WITH_SLOT, ids=named)
def test_every_slot_has_a_field_in_the_spec(kind: Kind) -> None:
    assert kind.slot in SLOTS
    assert slot_field(kind.slot).description


@pytest.mark.parametrize("kind", WITH_SLOT, ids=named)
def test_every_slot_is_bound_checked_and_in_the_schema(kind: Kind) -> None:
    reference = with_in_slot(kind, {"use": "no-such-thing"})
    with pytest.raises(SpecError) as caught:
        spec_from_mapping(reference, host=HOST)
    first = caught.value.mistakes[0] if kind.contract.kind != "evaluator" else caught.value.mistakes[-1]
    assert any(f"no {kind.contract.kind} is called 'no-such-thing'" in str(m) for m in caught.value.mistakes), first
    assert not VALIDATOR.is_valid(reference)


@pytest.mark.parametrize("kind", [k for k in WITH_SLOT if k.contract.kind != "evaluator"], ids=named)
def test_every_kind_is_found_by_its_contract(kind: Kind) -> None:
    options = {"parquet": {"path": "p"}, "factory": {"target": "a:b"}}
    for cls in (each for each in COMPONENTS if issubclass(each, kind.contract)):
        data = with_in_slot(kind, {"use": cls.name, **options.get(cls.name, {})})
        assert [error.message for error in VALIDATOR.iter_errors(data)] == []
        (variable,) = bind(spec_from_mapping(data, host=HOST), HOST).of(kind.contract)
        assert type(variable.component) is cls


def test_what_has_no_slot_is_named_by_others_alone() -> None:
    bound = bind(spec_from_mapping(read_text(GOOD)[0].data, host=HOST), HOST)
    assert [bound.of(kind.contract) for kind in KINDS if kind.slot is None] == [()]


def test_a_new_kind_takes_a_class_a_line_and_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables that are derived hold it as soon as the one table does."""
    import importlib

    from autoprune.host import slots
    from autoprune.plugin import kinds

    class Painter(Component):
        kind = "painter"

    with monkeypatch.context() as patch:
        patch.setattr(kinds, "KINDS", (*KINDS, Kind(Painter, ("device",))))
        derived = importlib.reload(slots)
        assert derived.SLOTS["device",].contract is Painter
        assert derived.kind_of(Painter).slot == ("device",)
    importlib.reload(slots)
    assert ("device",) not in slots.SLOTS
