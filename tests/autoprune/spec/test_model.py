"""The spec as data: what users write goes in, and the same comes out."""

from __future__ import annotations

import pickle
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from autoprune.spec import Bound, Document, Spec, parse, read_text
from autoprune.spec.fields import BoundField, Duration

from .broken_specs import GOOD

DURATION = TypeAdapter(Duration)
BOUND = TypeAdapter(BoundField)


def good(**changes: Any) -> dict[str, Any]:
    """The good spec's data with other values at the top."""
    return {**read_text(GOOD)[0].data, **changes}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("0.25s", 0.25),
        ("2h3m4.5s", 7384.5),
        ("48h", 172800),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert DURATION.validate_python(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value", ["", "30", 30, "0s", "-1m", "1m1h", "1.2.3s", "1 h", "9e9h", f"{'9' * 400}h", None, True]
)
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValidationError, match="write a duration as 90s, 30m or 1h30m"):
        DURATION.validate_python(value)


@given(st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=1000)))
def test_durations_go_out_as_they_come_in(duration: timedelta) -> None:
    text = DURATION.dump_python(duration)
    assert DURATION.validate_python(text) == duration


def test_durations_are_written_short() -> None:
    texts = ["30m", "1h30m", "90s", "0.5s", "2h"]
    assert [DURATION.dump_python(DURATION.validate_python(text)) for text in texts] == [
        "30m",
        "1h30m",
        "1m30s",
        "0.5s",
        "2h",
    ]


@given(st.sampled_from(["<=", ">="]), st.floats(allow_nan=False, allow_infinity=False))
def test_bounds_go_out_as_they_come_in(relation: Any, value: float) -> None:
    bound = Bound(relation=relation, value=value)
    assert BOUND.validate_python(BOUND.dump_python(bound)) == bound


@given(st.sampled_from(["<=", ">="]), st.decimals(0, 1000, places=4))
def test_shares_of_the_dense_model_go_out_as_they_come_in(relation: str, percent: Decimal) -> None:
    bound = BOUND.validate_python(f"{relation} {percent}% of dense")
    assert BOUND.validate_python(BOUND.dump_python(bound)) == bound
    assert bound.at(50.0) == Bound(relation=bound.relation, value=bound.value * 50.0)
    with pytest.raises(ValueError, match="is a share"):
        bound.violation(1.0)


def test_shares_of_the_dense_model_are_written_in_two_ways() -> None:
    assert BOUND.validate_python(">= 97% of dense") == BOUND.validate_python(">=0.97 of  dense")
    assert BOUND.validate_python(">= 97% of dense").at(0.5).violation(0.48) == pytest.approx(0.005)


@pytest.mark.parametrize(
    "value",
    [
        "> 1",
        "1",
        "== 1",
        ">= ",
        ">= 1.2.3",
        ">= 1e999",
        ">= nan",
        ">= 80%",
        ">= 80 % of dense x",
        ">= of dense",
        0.8,
        None,
        {"value": 1},
    ],
)
def test_what_is_no_bound(value: object) -> None:
    with pytest.raises(ValidationError, match=r'write a bound as ">= 0\.80"'):
        BOUND.validate_python(value)


@pytest.mark.parametrize(
    ("bound", "measured", "violation"), [(">= 0.8", 0.7, 0.1), (">= 0.8", 0.9, -0.1), ("<= 5", 7, 2), ("<=5", 4, -1)]
)
def test_violation_is_positive_where_a_bound_is_broken(bound: str, measured: float, violation: float) -> None:
    assert BOUND.validate_python(bound).violation(measured) == pytest.approx(violation)


def test_a_whole_spec_goes_out_as_it_comes_in() -> None:
    spec = Spec.model_validate(good(search={"timeout": "1h30m", "workers": 2, "trial_timeout": "90s"}))
    dumped = spec.model_dump(mode="json")
    assert dumped["search"]["timeout"] == "1h30m"
    assert dumped["constraints"] == {"accuracy": ">= 0.8"}
    assert Spec.model_validate(dumped) == spec
    assert Spec.model_validate(spec.model_dump()) == spec
    assert Spec.model_validate_json(spec.model_dump_json()) == spec
    assert Spec.model_validate(good()) != spec


def test_defaults_are_the_documented_ones() -> None:
    spec = Spec(
        name="x", model={"use": "m"}, data={"use": "d"}, evaluators=[{"use": "e"}], objectives={"m": "minimize"}
    )
    dumped = spec.model_dump()
    assert dumped["scorer"] == [{"use": "l1"}, {"use": "l2", "weights": "fan-out"}, {"use": "taylor"}]
    assert dumped["strategy"] == {"use": "one-shot", "recover": {"use": "repair"}}
    assert dumped["task"] == {"use": "classification"}
    assert dumped["search"]["executor"] == {"use": "local"}
    assert [dumped[key] for key in ("plugins", "transforms", "exporters", "observers")] == [[], [], [], []]
    assert dumped["search"]["sampler"] == {"use": "sensitivity"}
    assert dumped["search_space"] == {
        "use": ["channels"],
        "form": "auto",
        "ratio": {"low": 0.0, "high": 0.8},
        "groups": {},
    }
    assert spec.document == Document()


def test_a_spec_is_frozen_and_can_be_sent_to_a_process() -> None:
    spec, _ = parse(read_text(GOOD, file="spec.yaml")[0])
    assert spec is not None
    with pytest.raises(ValidationError, match="frozen"):
        spec.name = "other"
    sent = pickle.loads(pickle.dumps(spec))
    assert sent == spec
    assert sent.document.mistake(("search", "trials"), "x").line == 13


@pytest.mark.parametrize("value", [[{"use": "l1"}], [{"use": "l1"}, {"use": "taylor", "batches": 4}], {"use": "l1"}])
def test_scorer_is_one_or_a_list(value: Any) -> None:
    assert Spec.model_validate(good(scorer=value)).scorer == value


@pytest.mark.parametrize("key", ["scorer", "strategy"])
def test_a_component_may_be_left_to_choose(key: str) -> None:
    value = {"choose": [{"use": "a"}, {"use": "b", "c": {"low": 1, "high": 2}}]}
    spec = Spec.model_validate(good(**{key: value}))
    assert spec.model_dump()[key] == value
    assert Spec.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1"])
def test_devices(device: str) -> None:
    assert Spec.model_validate(good(device=device)).device == device
