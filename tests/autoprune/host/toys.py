"""Components that say what the built-in ones say to a spec, and do nothing: the host is tested without any plugin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

from autoprune.host.plugins import PluginHost
from autoprune.plugin import (
    Component,
    Cost,
    DataSource,
    Evaluator,
    Executor,
    Exporter,
    Measured,
    Metric,
    ModelSource,
    Observer,
    Recoveries,
    Recovery,
    Sampler,
    Scorer,
    Strategy,
    Task,
    Transform,
    hookimpl,
)


class _Toy(Component):
    def build(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("toys are never run")

    load = score = prune = recover = evaluate = build
    loss = divergence = agreement = apply = rebuild = costs = export = open = build


class Classification(_Toy, Task):
    name = "classification"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class Regression(_Toy, Task):
    name = "regression"


class DigitsCnn(_Toy, ModelSource):
    name = "digits-cnn"
    width: int = Field(default=16, ge=2)
    epochs: int = Field(default=20, ge=1)


class Factory(_Toy, ModelSource):
    name = "factory"
    target: str
    weights: Path | None = None
    arguments: dict[str, Any] = Field(default={})


class Normalize(BaseModel):
    model_config = ConfigDict(extra="forbid")
    mean: tuple[float, ...] = Field(min_length=1)
    std: tuple[float, ...] = Field(min_length=1)


class Digits(_Toy, DataSource):
    name = "digits"


class Parquet(_Toy, DataSource):
    name = "parquet"
    path: Path
    channels: Literal[1, 3] | None = None
    normalize: Normalize | None = None


class L1(_Toy, Scorer):
    name = "l1"


class Taylor(_Toy, Scorer):
    name = "taylor"
    batches: int = Field(default=32, ge=1, description="Batches of the train split.")


class L2(_Toy, Scorer):
    name = "l2"
    weights: Literal["fan-in", "fan-out"] = "fan-in"


class NoRecovery(Recovery):
    name = "none"

    def recover(self, pruned: Any, ctx: Any) -> None:
        """Nothing."""


class BatchNormRecalibration(Recovery):
    name = "bn-recalibration"
    samples: int = Field(default=512, ge=2)

    def recover(self, pruned: Any, ctx: Any) -> None:
        """Nothing."""


class Repair(Recovery):
    name = "repair"

    def recover(self, pruned: Any, ctx: Any) -> None:
        """Nothing."""


class FineTune(Recovery):
    name = "fine-tune"
    epochs: float = Field(default=1.0, gt=0)
    lr: float = Field(default=0.01, gt=0)

    def recover(self, pruned: Any, ctx: Any) -> None:
        """Nothing."""


class OneShot(Strategy):
    name = "one-shot"
    recover: Recoveries = (NoRecovery(),)

    def prune(self, candidate: Any, ctx: Any) -> Any:
        raise AssertionError("toys are never run")


class LowRank(_Toy, Transform):
    name = "low-rank"
    method: Literal["svd", "asvd"] = "svd"
    layers: dict[str, float] = Field(default={})


class Onnx(_Toy, Exporter):
    name = "onnx"
    opset: int = 18


class Csv(Observer):
    name = "csv"
    file: str = "trials.csv"


class Local(_Toy, Executor):
    name = "local"


class Accuracy(_Toy, Evaluator):
    name = "accuracy"
    metrics = (Metric("accuracy", "fraction", "maximize", Cost.FORWARD, "Share of right predictions."),)
    samples: int | None = Field(default=None, ge=1)


class Latency(_Toy, Evaluator):
    name = "latency"
    metrics = (
        Metric("latency_ms", "ms", "minimize", Cost.TIMING),
        Metric("latency_ratio", "fraction of dense", "minimize", Cost.TIMING),
    )
    batch_size: int = Field(default=64, ge=1)


class Macs(Evaluator):
    name = "macs"
    metrics = (Metric("macs", "multiply-accumulates", "minimize", Cost.EXACT),)

    def evaluate(self, model: Any, ctx: Any) -> Mapping[str, float | Measured]:
        raise AssertionError("toys are never run")


class _Attack(_Toy, Evaluator):
    metrics = (Metric("robust_accuracy", "fraction", "maximize", Cost.ATTACK),)
    epsilon: Annotated[float, WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": "/"}]})] = (
        Field(gt=0)
    )
    samples: int | None = Field(default=256, ge=1)
    norm: Literal["linf", "l2"] = "linf"

    @field_validator("epsilon", mode="before")
    @classmethod
    def _fraction(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        over, slash, under = value.partition("/")
        try:
            return float(over) / float(under if slash else 1)
        except (ValueError, ZeroDivisionError):
            raise ValueError("write a distance as 2/255 or 0.008") from None


class Fgsm(_Attack):
    name = "fgsm"


class Pgd(_Attack):
    name = "pgd"
    steps: int = Field(default=10, ge=1)


class Nsga2(_Toy, Sampler):
    name = "nsga2"
    population_size: int = Field(default=20, ge=3)


class Sensitivity(_Toy, Sampler):
    name = "sensitivity"


class Tpe(_Toy, Sampler):
    name = "tpe"
    multivariate: bool = True


COMPONENTS = (
    *(Classification, Regression, DigitsCnn, Factory, Digits, Parquet, LowRank, Onnx, Csv, Local),
    *(L1, L2, Taylor, OneShot, NoRecovery, BatchNormRecalibration, Repair, FineTune),
    *(Accuracy, Latency, Macs, Fgsm, Pgd, Nsga2, Sensitivity, Tpe),
)


class ToyPlugin:
    """Brings the given components."""

    def __init__(self, *components: Any) -> None:
        self._components = components

    @hookimpl
    def autoprune_components(self) -> Iterable[type[Component]]:
        return self._components


def toy_host(*more: type[Component]) -> PluginHost:
    """A host that knows the toys, and whatever is given besides."""
    host = PluginHost([])
    host.register(ToyPlugin(*COMPONENTS, *more), name="toys")
    assert [plugin.error for plugin in host.plugins] == [None]
    return host
