"""The spec: what a user writes, as frozen data. It names components; it holds none, and imports no torch."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)

from autoprune.spec.document import Document

Direction = Literal["minimize", "maximize"]


def _named(value: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(value.get("use"), str):
        raise ValueError("name a component: {use: …}")
    return value


Reference = Annotated[dict[str, Any], AfterValidator(_named)]
"""``{use: name, …options}``: a registered component and its options, checked against the component's class."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RatioRange(_Section):
    """Bounds of a pruning ratio (also called prune factor): the fraction of a group's units that may go."""

    low: float = Field(default=0.0, ge=0.0, lt=1.0, description="Smallest fraction of a group's units that goes.")
    high: float = Field(default=0.8, ge=0.0, lt=1.0, description="Largest fraction of a group's units that goes.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class GroupRange(_Section):
    """Bounds for the groups that a pattern matches; what is left out comes from ``search_space.ratio``."""

    low: float | None = Field(default=None, ge=0.0, lt=1.0)
    high: float | None = Field(default=None, ge=0.0, lt=1.0)


class SearchSpace(_Section):
    """Which units may go, and how many of them."""

    use: Literal["channels"] = Field(default="channels", description="Granularity of what is cut.")
    ratio: RatioRange = RatioRange()
    groups: dict[str, GroupRange | Literal["keep"]] = Field(
        default={},
        description="Layer-name patterns (* and ?) to their own bounds, or `keep`; the last match counts.",
    )


_DURATION = re.compile(r"(?:(?P<hours>\d+(?:\.\d+)?)h)?(?:(?P<minutes>\d+(?:\.\d+)?)m)?(?:(?P<seconds>\d+(?:\.\d+)?)s)?")


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
    if match is None:
        raise ValueError("write a duration as 90s, 30m or 1h30m")
    return timedelta(**{unit: float(number) for unit, number in match.groupdict().items() if number})


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": "^([0-9.]+h)?([0-9.]+m)?([0-9.]+s)?$"}),
]

_BOUND = re.compile(r"\s*(<=|>=)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*")


class Bound(BaseModel):
    """A constraint on one metric, written ``">= 0.80"`` or ``"<= 1e6"``."""

    model_config = ConfigDict(frozen=True)

    relation: Literal["<=", ">="]
    value: float

    def violation(self, measured: float) -> float:
        """How far the bound is broken; ≤ 0 where it holds."""
        return measured - self.value if self.relation == "<=" else self.value - measured

    def __str__(self) -> str:
        return f"{self.relation} {self.value:g}"


def _bound(value: object) -> object:
    if isinstance(value, Bound | dict):
        return value
    match = _BOUND.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('write a bound as ">= 0.80" or "<= 1e6"')
    return {"relation": match[1], "value": float(match[2])}


BoundField = Annotated[
    Bound,
    BeforeValidator(_bound),
    WithJsonSchema({"type": "string", "pattern": "^\\s*(<=|>=)\\s*[-+]?[0-9.]+([eE][-+]?[0-9]+)?\\s*$"}),
]


class Search(_Section):
    """How long, by which algorithm and where the search runs."""

    sampler: Reference = Field(default={"use": "nsga2"}, description="Optuna's algorithm that proposes candidates.")
    trials: int = Field(default=100, ge=1, description="Trials in all, the dense model and the ladder included.")
    ladder: int = Field(default=5, ge=0, description="Uniform ratios tried right after the dense model.")
    timeout: Duration | None = Field(default=None, description="Ask for no further trial after so long (30m, 1h).")
    trial_timeout: Duration | None = Field(default=None, description="A trial that takes longer fails (needs workers ≥ 2).")
    seed: int = Field(default=0, ge=0, description="Seeds the sampler, the scorers, the recovery and the attacks.")
    workers: int = Field(default=1, ge=1, description="Processes that run trials side by side.")
    storage: str | None = Field(default=None, description="An Optuna storage URL; a journal file in the study's folder if left out.")


class Tracking(_Section):
    """Where every trial and the front are recorded."""

    uri: str | None = Field(default=None, description="MLflow tracking URI; $MLFLOW_TRACKING_URI or sqlite:///mlflow.db if left out.")
    experiment: str | None = Field(default=None, description="MLflow experiment; the spec's name if left out.")
    enabled: bool = Field(default=True, description="Switches tracking off.")


class Spec(_Section):
    """A whole search. Relative paths are relative to the folder of the spec's file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100, description="Names the study.")
    model: Reference = Field(description="Where the dense model comes from.")
    data: Reference = Field(description="Where the data comes from.")
    search_space: SearchSpace = SearchSpace()
    scorer: Reference | list[Reference] = Field(default={"use": "l1"}, description="Ranks units; of a list, the search chooses.")
    strategy: Reference | list[Reference] = Field(default={"use": "one-shot"}, description="Turns ratios into a pruned model; of a list, the search chooses.")
    evaluators: list[Reference] = Field(min_length=1, description="What is measured in every trial.")
    objectives: dict[str, Direction] = Field(min_length=1, description="Metrics to minimize or maximize.")
    constraints: dict[str, BoundField] = Field(default={}, description='Bounds on metrics, as ">= 0.80".')
    search: Search = Search()
    tracking: Tracking = Tracking()
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto takes CUDA where there is one.")
    output: str | None = Field(default=None, description="Folder of the study; runs/<name>-<number> in the current folder if left out.")

    _document: Document = PrivateAttr(default_factory=Document)

    @property
    def document(self) -> Document:
        """The file behind the spec: its text and where each key stands."""
        return self._document
