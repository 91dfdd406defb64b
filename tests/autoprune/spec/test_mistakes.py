"""pydantic's errors in plain words: one line each, wherever types are nested."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from autoprune.errors import Mistake, SpecError, dotted
from autoprune.spec import mistakes_of, near, nearest, read_text


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = 1
    kind: Literal["round", "square"] = "round"


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int | Literal["all"] = 1
    path: str | None = None
    inner: Inner | list[Inner] | None = None
    table: dict[str, Inner | float] = {}
    pair: tuple[int, int] = (1, 2)
    color: Color = Color.RED
    words: list[Annotated[str, Field(min_length=3)]] = []
    many: list[int] = Field(default=[], min_length=2, max_length=3)
    percent: float = Field(default=0.5, gt=0, lt=100, allow_inf_nan=False)
    spelled: int = Field(default=1, alias="as-spelled")
    even: int = 0

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise AssertionError("must be even")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Outer:
        if self.path == "nowhere":
            raise ValueError("leads nowhere")
        return self


def told(text: str) -> list[str]:
    """What is wrong with an `Outer` in YAML."""
    document, mistakes = read_text(text)
    assert not mistakes
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(document.data)
    found = mistakes_of(caught.value, document, data=document.data, model=Outer)
    return [str(mistake).removeprefix("<spec>:") for mistake in SpecError(found).mistakes]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("count: most", "1:1: count: must be a whole number or 'all', not 'most'"),
        ("count: al", "1:1: count: must be a whole number or 'all', not 'al'; did you mean 'all'?"),
        ("path: [a]", "1:1: path: must be text, not a list"),
        ("inner: 5", "1:1: inner: must be a mapping or a list, not 5"),
        ("inner: {size: x}", "1:9: inner.size: must be a whole number, not 'x'"),
        ("inner: [{size: 1}, {siz: 1}]", "1:21: inner.1.siz: unknown key; did you mean 'size'?"),
        ("inner: [{size: 1}, 7]", "1:20: inner.1: must be a mapping, not 7"),
        ("table: {a: x}", "1:9: table.a: must be a mapping or a number, not 'x'"),
        (
            "table: {a: {kind: rund}}",
            "1:13: table.a.kind: must be 'round' or 'square', not 'rund'; did you mean 'round'?",
        ),
        ('table: {"a.b": {colour: 1}}', '1:17: table."a.b".colour: unknown key; known: kind, size'),
        ("pair: [1]", "1:1: pair.1: missing item"),
        ("pair: [1, a]", "1:11: pair.1: must be a whole number, not 'a'"),
        ("color: green", "1:1: color: must be 'red' or 'blue', not 'green'"),
        ("words: [ab]", "1:9: words.0: must have at least 3 characters"),
        ("many: [1]", "1:1: many: must have at least 2 items"),
        ("many: [1, 2, 3, 4]", "1:1: many: must have at most 3 items"),
        ("percent: 0", "1:1: percent: must be above 0, not 0"),
        ("percent: 100.5", "1:1: percent: must be below 100, not 100.5"),
        ("percent: .inf", "1:1: percent: must be a finite number, not inf"),
        ("as-speled: 1", "1:1: as-speled: unknown key; did you mean 'as-spelled'?"),
        ("as-spelled: x", "1:1: as-spelled: must be a whole number, not 'x'"),
        ("even: 3", "1:1: even: must be even"),
        ("path: nowhere", "1:1: spec: leads nowhere"),
        ("path: " + "x" * 60 + "\neven: " + "y" * 60, f"2:1: even: must be a whole number, not '{'y' * 36}…"),
    ],
)
def test_one_plain_line_per_mistake(text: str, line: str) -> None:
    assert told(text) == [line]


def test_nothing_is_told_about_what_could_not_be_read() -> None:
    document, _ = read_text("count: ${AUTOPRUNE_UNSET}\npath: *x\neven: 1\n")
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({**document.data, "path": 3})
    found = mistakes_of(caught.value, document, data=document.data, model=Outer)
    assert [mistake.path for mistake in found] == [("even",)]


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("multivariat", ["multivariate", "seed"], "; did you mean 'multivariate'?"),
        ("L1", ["l1", "l2"], "; did you mean 'l1'?"),
        ("one_shot", ["one-shot", "iterative"], "; did you mean 'one-shot'?"),
        ("max", ["minimize", "maximize"], "; did you mean 'maximize'?"),
        ("hessian", ["l2", "l1"], "; known: l1, l2"),
        ("anything", [], ""),
    ],
)
def test_near_names(name: str, known: list[str], hint: str) -> None:
    assert near(name, known) == hint


def test_nearest_is_none_where_nothing_is_near() -> None:
    assert nearest("hessian", ["l1"]) is None


def test_a_mistake_is_one_line_whatever_it_quotes() -> None:
    assert str(Mistake(("a\nb",), "c\r\nd\u2028e")) == "<spec>:1:1: a b: c d e"


def test_paths_are_written_as_overrides_take_them() -> None:
    path: tuple[Any, ...] = ("search_space", "groups", "layer1.*", "high")
    assert dotted(path) == 'search_space.groups."layer1.*".high'
    document, mistakes = read_text("a: 1\n", [f"{dotted(path)}=0.5"])
    assert not mistakes
    assert document.data["search_space"] == {"groups": {"layer1.*": {"high": 0.5}}}
