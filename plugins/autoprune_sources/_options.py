"""Options that data sources share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypedDict

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from autoprune import DataError
from autoprune.plugin import DataSource, Normalization

if TYPE_CHECKING:
    from torch import Tensor


class Normalize(BaseModel):
    """Per-channel ``(x - mean) / std`` in front of the network; the data itself stays in input units."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: tuple[float, ...] = Field(min_length=1, description="Mean of each channel, in input units.")
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        min_length=1, description="Standard deviation of each channel, in input units."
    )

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} values and std has {len(self.std)}")
        return self

    def of(self, channels: int) -> Normalization:
        """The value object, for data of so many channels.

        Raises:
            DataError: There are more or fewer values than channels.
        """
        if len(self.mean) != channels:
            raise DataError(f"normalize gives {len(self.mean)} channels; the data has {channels}")
        return Normalization(mean=self.mean, std=self.std)

    def of_samples(self, first: Tensor) -> Normalization:
        """The value object, for such a first input, (N, C, …).

        Raises:
            DataError: It has no channels, or not as many as there are values.
        """
        if first.dim() < 2:
            raise DataError(f"normalize needs (N, C, …); the first input has the shape {tuple(first.shape)}")
        return self.of(first.shape[1])


def _target(text: str) -> str:
    module, colon, attribute = text.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise ValueError("write module:callable, as in mymodels:resnet20")
    return text


Target = Annotated[str, AfterValidator(_target)]
"""An import path."""


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] >= bounds[1]:
        raise ValueError(f"{bounds[0]} is not below {bounds[1]}")
    return bounds


Bounds = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""Smallest and largest legal value of an input."""


def checked_bounds(bounds: tuple[float, float] | None, first: Tensor) -> tuple[float, float] | None:
    """Those of such a first input as sources read it: images, uint8, have their own.

    Raises:
        DataError: It holds no floats.
    """
    if bounds is not None and not first.is_floating_point():
        raise DataError(f"bounds are of floats; the first input is {str(first.dtype)[6:]}")
    return (0.0, 1.0) if str(first.dtype) == "torch.uint8" else bounds


def _whole_above_one(amount: float) -> float:
    if amount >= 1 and amount != int(amount):
        raise ValueError("write a fraction below 1, or a whole number of samples")
    return amount


Amount = Annotated[float, Field(gt=0), AfterValidator(_whole_above_one)]
"""A fraction (below 1) or a number (from 1) of samples."""


class Carving(TypedDict):
    """Options of `SplitSource`, as `autoprune.toolkit.splits` takes them."""

    validation: float
    test: float
    validation_from: Literal["train", "test"]


class SplitSource(DataSource):
    """A source that carves the splits it lacks from those it has, always the same way."""

    path: Path = Field(description="Where the files are.")
    validation: Amount = Field(
        default=0.1,
        description="Fraction (below 1) or number of samples for validation, if there is no such split.",
    )
    validation_from: Literal["train", "test"] = Field(
        default="train",
        description="Split that they are taken from: `test` where the model was trained on the whole training split.",
    )
    test: Amount = Field(
        default=0.2, description="Fraction (below 1) or number of training samples for test, if there is no such split."
    )

    @property
    def _carving(self) -> Carving:
        """How to come by the splits that are missing."""
        return {"validation": self.validation, "test": self.test, "validation_from": self.validation_from}


class NormalizedSource(SplitSource):
    """The same, of inputs that have a mean and a standard deviation."""

    normalize: Normalize | None = Field(
        default=None, description="Mean and standard deviation per channel, applied in front of the network."
    )
