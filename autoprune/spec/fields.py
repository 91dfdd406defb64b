"""The kinds of value a spec is written in, each with a plain message for what does not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """Base of everything a spec is read into: frozen, no unknown keys, and ``true`` is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and info.field_name is not None:
            annotation = cls.model_fields[info.field_name].annotation
            taken = {annotation, *get_args(annotation)}
            if taken & {int, float} and bool not in taken:
                raise PydanticCustomError("bool_for_number", "Input should be a number")
        return value


def _reference(value: object) -> object:
    if isinstance(value, str):
        raise ValueError(f"write {{use: {value}}}")
    if not isinstance(value, Mapping):
        raise ValueError("must be a mapping such as {use: name}")
    if not isinstance(value.get("use"), str):
        raise ValueError("name a component: {use: name}")
    return value


Reference = Annotated[dict[str, Any], BeforeValidator(_reference)]
"""``{use: name, …options}``: a registered component and its options, checked against the component's class."""


class Choose(Strict):
    """``{choose: [reference, …]}``: several components, of which the search chooses one."""

    choose: list[Reference] = Field(min_length=2, description="The search chooses one of these.")


def _form(value: object) -> str:
    if isinstance(value, list | tuple):
        return "<list>"
    chosen = isinstance(value, Choose) or (isinstance(value, Mapping) and "choose" in value and "use" not in value)
    return "<choose>" if chosen else "<one>"


References = Annotated[
    Annotated[Reference, Tag("<one>")]
    | Annotated[list[Reference], Field(min_length=1), Tag("<list>")]
    | Annotated[Choose, Tag("<choose>")],
    Discriminator(_form),
]
"""One reference, a list of several, or several to choose from."""

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DURATION = re.compile(rf"(?:(?P<hours>{_NUMBER})h)?(?:(?P<minutes>{_NUMBER})m)?(?:(?P<seconds>{_NUMBER})s)?")


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    try:
        duration = timedelta(**{unit: float(n) for unit, n in match.groupdict().items() if n}) if match else timedelta()
    except OverflowError:
        duration = timedelta()
    if not duration:
        raise ValueError("write a duration as 90s, 30m or 1h30m")
    return duration


def _duration_text(value: timedelta) -> str:
    minutes, seconds = divmod(value, timedelta(minutes=1))
    parts = {
        "h": f"{minutes // 60}",
        "m": f"{minutes % 60}",
        "s": f"{seconds.total_seconds():.6f}".rstrip("0").rstrip("."),
    }
    return "".join(f"{number}{unit}" for unit, number in parts.items() if number != "0")


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(_duration_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^(?=.)([0-9.]+h)?([0-9.]+m)?([0-9.]+s)?$"}),
]
"""A length of time, written ``90s``, ``30m`` or ``1h30m``."""

_BOUND_PATTERN = r"^\s*(<=|>=)\s*([-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?)\s*((%?)\s+of\s+dense\s*)?$"
_BOUND = re.compile(_BOUND_PATTERN)


class Bound(BaseModel):
    """A constraint on one metric, written ``">= 0.80"``, ``"<= 1e6"`` or ``">= 97% of dense"``."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    relation: Literal["<=", ">="]
    value: float
    of_dense: bool = False
    """Whether the value is a share of what the dense model has."""

    def at(self, dense: float) -> Bound:
        """The same as a number of its own.

        Args:
            dense: What the dense model has of the metric.
        """
        return Bound(relation=self.relation, value=self.value * dense) if self.of_dense else self

    def violation(self, measured: float) -> float:
        """How far the bound is broken; ≤ 0 where it holds. A share of the dense model's has to be made a number first.

        Raises:
            ValueError: It is such a share.
        """
        if self.of_dense:
            raise ValueError(f"{self} is a share: see `at`")
        return measured - self.value if self.relation == "<=" else self.value - measured

    def __str__(self) -> str:
        if self.of_dense:
            return f"{self.relation} {100 * self.value:.12g}% of dense"
        return f"{self.relation} {repr(self.value).removesuffix('.0')}"


def _bound(value: object) -> object:
    if isinstance(value, Bound):
        return value
    match = _BOUND.fullmatch(value) if isinstance(value, str) else None
    if match is None or not float("-inf") < float(match[2]) < float("inf"):
        raise ValueError('write a bound as ">= 0.80", "<= 1e6" or ">= 97% of dense"')
    value = float(match[2]) / (100 if match[6] else 1)
    return {"relation": match[1], "value": value, "of_dense": match[5] is not None}


BoundField = Annotated[
    Bound,
    BeforeValidator(_bound),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _BOUND_PATTERN}),
]


def matching(pattern: str, message: str) -> AfterValidator:
    """Text that matches a pattern, with a message of its own in place of the pattern."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(message)
        return value

    return AfterValidator(check)
