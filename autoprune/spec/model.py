"""The spec: what a user writes, as frozen data. It names components; it holds none, and imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from autoprune.spec.document import Document
from autoprune.spec.fields import Bound, BoundField, Duration, Reference, References, Strict, matching

__all__ = ["Bound", "Direction", "GroupRange", "RatioRange", "Search", "SearchSpace", "Spec", "Tracking"]

Direction = Literal["minimize", "maximize"]

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_DEVICE = r"auto|cpu|cuda(:\d+)?"


class _Section(Strict):
    model_config = ConfigDict(allow_inf_nan=False)


def _refused(mistakes: Sequence[tuple[tuple[str, ...], str]]) -> ValidationError:
    """Mistakes that take several keys to see, each at the key to blame."""
    lines: list[InitErrorDetails] = [
        {"type": PydanticCustomError("refused", "{message}", {"message": message}), "loc": loc, "input": None}
        for loc, message in mistakes
    ]
    return ValidationError.from_exception_data("Spec", lines)


class RatioRange(_Section):
    """Bounds of a pruning ratio (also called prune factor): the fraction of a group's units that may go."""

    low: float = Field(default=0.0, ge=0.0, lt=1.0, description="Smallest fraction of a group's units that goes.")
    high: float = Field(default=0.8, ge=0.0, lt=1.0, description="Largest fraction of a group's units that goes.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self


class GroupRange(_Section):
    """Bounds for the groups that a pattern matches; what is left out comes from ``search_space.ratio``."""

    low: float | None = Field(default=None, ge=0.0, lt=1.0, description="Smallest fraction of units that goes.")
    high: float | None = Field(default=None, ge=0.0, lt=1.0, description="Largest fraction of units that goes.")


def _group_bounds(value: object) -> object:
    if not isinstance(value, str | Mapping | GroupRange):
        raise ValueError("write bounds such as {high: 0.5}, or keep")
    return value


GroupBounds = Annotated[
    Annotated[GroupRange, Tag("<range>")] | Annotated[Literal["keep"], Tag("<keep>")],
    Discriminator(lambda value: "<keep>" if isinstance(value, str) else "<range>"),
    BeforeValidator(_group_bounds),
]


_MASKS = ("weights", "kernels")
_ONE = {"type": "string", "pattern": r"^(channels|blocks|weights|kernels|\d+:\d+)$"}


def _granularity(text: str) -> str:
    n, colon, m = text.partition(":")
    if colon and n.isdecimal() and m.isdecimal():
        if not 0 < int(n) < int(m):
            raise ValueError(f"{text} keeps {n} of each {m} weights; write fewer than all, as in 2:4")
        return text
    known = ("channels", "blocks", *_MASKS)
    if text not in known:
        close = difflib.get_close_matches(text, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)} and N:M such as 2:4"
        raise ValueError(f"there is no granularity {text!r}; {hint}")
    return text


def _consistent(used: list[str]) -> list[str]:
    if twice := [text for text in used if used.count(text) > 1]:
        raise ValueError(f"{twice[0]} stands there twice")
    if len(masks := [text for text in used if text in _MASKS or ":" in text]) > 1:
        raise ValueError(f"{masks[0]} and {masks[1]} would both set the same weights to zero; choose one")
    return used


Granularities = Annotated[
    list[Annotated[str, AfterValidator(_granularity)]],
    Field(min_length=1),
    WithJsonSchema({"anyOf": [_ONE, {"type": "array", "items": _ONE, "minItems": 1}]}),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    AfterValidator(_consistent),
]


class SearchSpace(_Section):
    """Which units may go, and how many of them."""

    use: Granularities = Field(
        default=["channels"],
        description="Granularities: channels (and neurons, heads, hidden units), blocks, and weights, kernels or N:M.",
    )
    form: Literal["auto", "modules", "graph"] = Field(
        default="auto",
        description="Pruned models are the model's own modules, its exported graph, or (auto) that where code refuses.",
    )
    ratio: RatioRange = Field(default=RatioRange(), description="Bounds of every group's pruning ratio.")
    groups: dict[str, GroupBounds] = Field(
        default={},
        description="Patterns (* and ?) of layers or groups to their own bounds, or `keep`; the last match counts.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        mistakes = []
        for pattern, group in self.groups.items():
            if isinstance(group, GroupRange):
                low = self.ratio.low if group.low is None else group.low
                high = self.ratio.high if group.high is None else group.high
                if low > high:
                    partial = group.low is None or group.high is None
                    source = "; what is left out comes from search_space.ratio" if partial else ""
                    mistakes.append((("groups", pattern), f"low {low:g} is above high {high:g}{source}"))
        if mistakes:
            raise _refused(mistakes)
        return self


def _samples(value: object) -> object:
    if value in ("auto", "all") or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise ValueError("write auto, all or a number of samples")


class Final(_Section):
    """How the front is made again and measured once the trials are done."""

    samples: Annotated[Literal["auto", "all"] | Annotated[int, Field(ge=1)], BeforeValidator(_samples)] = Field(
        default="auto",
        description="Of the test split, the same for the dense model and every member: all, so many, or (auto) as many"
        " as a third of the trials' time allows once members were made again, but 1,000 at least; then the dense model"
        " and the member that the report names are measured on all of them, too. With auto, making members again by"
        " their strategy's final version takes half of that time at most, but five are made again at least.",
    )


class Search(_Section):
    """How long, by which algorithm and where the search runs."""

    sampler: Reference = Field(default={"use": "sensitivity"}, description="The algorithm that proposes candidates.")
    trials: int = Field(default=100, ge=1, description="Trials in all, the dense model and the ladder included.")
    ladder: int = Field(default=0, ge=0, description="Uniform ratios tried right after the dense model.")
    warm_start: str | None = Field(
        default=None,
        description="Folder of an earlier study: what its front's members chose is tried again after the ladder, and"
        " its probes are used again where they would come out the same.",
    )
    timeout: Duration | None = Field(
        default=None, description="Begin no further probe or trial after so long (30m, 1h)."
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Begin no further trial once so many in a row let the hypervolume grow by less than 0.1 %.",
    )
    trial_timeout: Duration | None = Field(
        default=None, description="A trial that takes longer fails (needs workers: 2 or more)."
    )
    seed: int = Field(
        default=0, ge=0, lt=2**32, description="Seeds the sampler, the scorers, the recovery and the attacks."
    )
    early_rejection: float = Field(
        default=0.01,
        ge=0,
        lt=0.5,
        description="Chance at which a candidate is given up that would reach the front, when confidence bounds say it"
        " cannot; 0 measures every candidate to the end.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Of forward passes in the search; auto takes bfloat16 where the hardware has it, the model is large"
        " enough to gain and predicts the same (divergence below 0.001 nats). The front is measured again in float32.",
    )
    final: Final = Field(default=Final(), description="How the front is measured once the trials are done.")
    workers: int = Field(default=1, ge=1, description="Trials that run side by side.")
    executor: Reference = Field(default={"use": "local"}, description="Where trials run.")
    storage: str | None = Field(
        default=None, description="An Optuna storage URL; a journal file in the study's folder if left out."
    )

    @model_validator(mode="after")
    def _stoppable(self) -> Self:
        if self.trial_timeout is not None and self.workers < 2:
            raise _refused([(("trial_timeout",), "needs search.workers: 2 or more, to stop a trial from outside")])
        return self


class Tracking(_Section):
    """Where every trial and the front are recorded."""

    uri: str | None = Field(
        default=None, description="MLflow tracking URI; $MLFLOW_TRACKING_URI or sqlite:///mlflow.db if left out."
    )
    experiment: str | None = Field(default=None, description="MLflow experiment; the spec's name if left out.")
    enabled: bool = Field(default=True, description="Switches tracking off.")


class Spec(_Section):
    """A whole search. Relative paths are relative to the folder of the spec's file."""

    name: Annotated[
        str, matching(_NAME, "must begin with a letter or digit and hold only letters, digits, '.', '_' and '-'")
    ] = Field(max_length=100, description="Names the study.", json_schema_extra={"pattern": f"^{_NAME}$"})
    plugins: list[str] = Field(
        default=[], description="Python files with components of your own; the study keeps copies of them."
    )
    model: Reference = Field(description="Where the dense model comes from.")
    data: Reference = Field(description="Where the data comes from.")
    task: Reference = Field(default={"use": "classification"}, description="What right means for the model.")
    search_space: SearchSpace = Field(default=SearchSpace(), description="Which units may go, and how many of them.")
    scorer: References = Field(
        default=[{"use": "l1"}, {"use": "l2", "weights": "fan-out"}, {"use": "taylor"}],
        description="Ranks units; of a list, each group has the one whose cuts of it turn out to do least harm; of"
        " {choose: […]}, the search chooses one for all groups.",
    )
    strategy: References = Field(
        default={"use": "one-shot", "recover": {"use": "repair"}},
        description="Turns ratios into a pruned model; of a list or {choose: […]}, the search chooses.",
    )
    transforms: list[Reference] = Field(
        default=[], description="Replace modules of the pruned model, one after the other."
    )
    evaluators: list[Reference] = Field(min_length=1, description="What is measured in every trial.")
    objectives: dict[str, Direction] = Field(min_length=1, description="Metrics to minimize or maximize.")
    constraints: dict[str, BoundField] = Field(
        default={}, description='Bounds on metrics, as ">= 0.80" or ">= 97% of dense".'
    )
    search: Search = Field(default=Search(), description="How long, by which algorithm and where the search runs.")
    exporters: list[Reference] = Field(default=[], description="Write the front's models in forms for elsewhere.")
    observers: list[Reference] = Field(default=[], description="Watch the search.")
    tracking: Tracking = Field(default=Tracking(), description="Where every trial and the front are recorded.")
    device: Annotated[str, matching(_DEVICE, "must be auto, cpu, cuda or cuda:0, cuda:1, …")] = Field(
        default="auto",
        description="Where models run (auto, cpu, cuda, cuda:1); auto takes CUDA where there is one.",
        json_schema_extra={"pattern": f"^({_DEVICE})$"},
    )
    output: str | None = Field(
        default=None, description="Folder of the study; runs/<name>-<number> in the current folder if left out."
    )

    _document: Document = PrivateAttr(default_factory=Document)

    def model_post_init(self, context: Any, /) -> None:
        """Remember the document, which `parse` hands over as the validation context."""
        if isinstance(context, Document):
            self._document = context

    @property
    def document(self) -> Document:
        """The file behind the spec: its text and where each key stands."""
        return self._document

    def __eq__(self, other: object) -> bool:
        """Whether both say the same, whatever file they come from."""
        return isinstance(other, Spec) and self.model_dump() == other.model_dump()

    __hash__ = None  # type: ignore[assignment]
