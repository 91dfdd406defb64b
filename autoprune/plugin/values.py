"""The value objects that plugins see: groups of units, candidates, metrics, costs.

Tensor shapes use: U units of a group, K entries that one unit has along a parameter's dimension.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.plugin.components import Scorer

Direction = Literal["minimize", "maximize"]
Role = Literal["output", "input", "vector"]


class Cost(enum.IntEnum):
    """What measuring a metric takes; evaluators run in this order, cheapest first."""

    EXACT = 0
    """Arithmetic on the candidate: known before anything runs."""
    TIMING = 1
    """A few timed forward passes."""
    FORWARD = 2
    """Forward passes over a data split."""
    ATTACK = 3
    """Many forward and backward passes."""


@dataclass(frozen=True)
class Metric:
    """One value that an evaluator makes."""

    name: str
    """Identifier used in objectives and constraints, with its unit at the end (``latency_ms``)."""
    unit: str
    direction: Direction
    """Which way is better."""
    cost: Cost
    description: str = ""


class Measured(BaseModel):
    """A measured value with its uncertainty."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float | None = None
    """Lower end of the 95 % interval (or lower quartile of a timing)."""
    high: float | None = None
    """Upper end of the 95 % interval (or upper quartile of a timing)."""
    samples: int | None = None
    """How many samples or repetitions the value rests on."""


@dataclass(frozen=True)
class Slice:
    """Where the units of one group sit in one dimension of one parameter."""

    parameter: str
    """Name as in ``model.named_parameters()`` or ``named_buffers()``."""
    dim: int
    index: Tensor
    """Indices along ``dim``, int64 of shape (U, K): row u is cut with unit u."""
    role: Role
    """``output``: rows of a weight that make the unit; ``input``: columns that read it; ``vector``: bias, norm
    scale and shift, running statistics."""


@dataclass(frozen=True)
class Group:
    """Interchangeable units, so that one pruning ratio speaks for all of them."""

    name: str
    """Name of the first layer that makes the units, e.g. ``layer1.0.conv1``."""
    units: int
    granularity: str
    """``channel``, ``neuron``, ``head`` or ``hidden unit``."""
    layers: tuple[str, ...]
    """Names of the layers that make the units (several where a residual add couples them)."""
    slices: tuple[Slice, ...] = field(repr=False)


@dataclass(frozen=True)
class Costs:
    """Exact size of a (pruned) model."""

    params: int
    """Number of parameters (buffers not counted)."""
    macs: int
    """Multiply-accumulates of convolutions, linear layers and matrix products for one sample."""
    bytes: int
    """Bytes of parameters and buffers together."""


@dataclass(frozen=True)
class Candidate:
    """What one trial tries: a ratio per group and how units are ranked."""

    ratios: Mapping[str, float]
    """Achieved ratio per group: the fraction of its units that goes, already rounded to whole units."""
    cut_units: Mapping[str, int]
    """Number of units that go, per group."""
    scorer: Scorer


@dataclass(frozen=True)
class PrunedModel:
    """What a strategy returns."""

    network: nn.Module
    """The smaller network, a copy: the dense one is untouched."""
    kept: Mapping[str, Tensor]
    """Per group the sorted indices of the units that stayed, int64."""
