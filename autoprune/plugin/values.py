"""The value objects that plugins see: groups of units, candidates, metrics, costs.

Tensor shapes use: U units of a group, K entries that one unit has along a parameter's dimension.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

Direction = Literal["minimize", "maximize"]
Role = Literal["output", "input", "vector"]
"""What a slice of a parameter is to the units, see `Slice.role`."""


class Cost(enum.IntEnum):
    """What measuring a metric takes; evaluators run in this order, cheapest first."""

    EXACT = 0
    """Arithmetic on the candidate: known before anything runs."""
    TIMING = 1
    """A few passes, timed or weighed."""
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

    @property
    def is_cost(self) -> bool:
        """Whether it says what a model costs, known exactly or timed; else how well the model does."""
        return self.cost in (Cost.EXACT, Cost.TIMING)

    def __post_init__(self) -> None:
        if self.direction not in get_args(Direction):
            raise ValueError(f"metric {self.name}: direction is minimize or maximize, not {self.direction!r}")
        if not isinstance(self.cost, Cost):
            costs = ", ".join(f"Cost.{cost.name}" for cost in Cost)
            raise ValueError(f"metric {self.name}: cost is one of {costs}, not {self.cost!r}")


class Difference(BaseModel):
    """What a model has of a metric less what the dense one has, on the same samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float | None = None
    """Lower end of the 95 % interval."""
    high: float | None = None
    """Upper end of the 95 % interval."""

    @property
    def told_apart(self) -> bool:
        """Whether the interval is without 0: the two models differ by more than chance explains."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


class Measured(BaseModel):
    """A measured value with its uncertainty."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float | None = None
    """Lower end of the 95 % interval."""
    high: float | None = None
    """Upper end of the 95 % interval."""
    samples: int | None = None
    """How many samples or repetitions the value rests on."""
    difference: Difference | None = None
    """From the dense model, where both were measured on the same samples."""


def apart(one: Measured | Difference, other: Measured | Difference) -> Difference:
    """How much more one value is than another that is independent of it.

    Newcombe, *Interval estimation for the difference between independent proportions*, Statistics in Medicine 17, 1998,
    method 10, which holds for means as well. There is no interval where one of the two has none.
    """
    value = one.value - other.value
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Difference(value=value)
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    return Difference(value=value, low=low, high=value + math.hypot(one.high - one.value, other.value - other.low))


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

    def total(self, values: Tensor) -> Tensor:
        """Sum of values in the parameter's shape over the entries of each unit, of shape (U,)."""
        # A unit always is whole hyperplanes of a parameter.
        sums = values.movedim(self.dim, 0).reshape(values.shape[self.dim], -1).sum(1)
        return sums[self.index.to(sums.device)].sum(-1)


@dataclass(frozen=True)
class Group:
    """Interchangeable units, so that one pruning ratio speaks for all of them.

    Where its units sit depends on the granularity. Channels, neurons, heads and hidden units are rows and columns of
    parameters: ``slices``. Blocks are modules with all their ``owned`` parameters. Weights, kernels and the weights of
    N:M sparsity are entries of the one parameter ``masked``, in its order: they become zero, nothing gets smaller.
    """

    name: str
    """Name of the first layer that makes the units, e.g. ``layer1.0.conv1``; of a masked parameter its own."""
    units: int
    granularity: str
    """``channel``, ``neuron``, ``head``, ``hidden unit``; ``block``; ``weight``, ``kernel`` or ``2:4``."""
    layers: tuple[str, ...]
    """Names of the layers that make the units (several where a residual add couples them); of blocks, their own."""
    slices: tuple[Slice, ...] = field(default=(), repr=False)
    owned: tuple[tuple[str, ...], ...] = field(default=(), repr=False)
    """Of blocks: per unit the names of its parameters."""
    masked: str = ""
    """Of weights and kernels: the parameter; unit u is entry u of ``parameter.reshape(U, -1)``."""
    step: int = 1
    """Units go in multiples of so many: under N:M sparsity M − N of each M go, or none."""

    def total(self, values: Callable[[str], Tensor], role: Role | None = None) -> Tensor:
        """Sum of a value over the entries of each unit, of shape (U,).

        Args:
            values: Parameter name to a value for each of its entries, in its shape.
            role: Which slices count, all if None. Blocks and masked entries have no roles: all that they are counts.
        """
        import torch

        if self.owned:
            return torch.stack([torch.stack([values(name).sum() for name in names]).sum() for names in self.owned])
        if self.masked:
            return values(self.masked).reshape(self.units, -1).sum(1)
        sums = [part.total(values(part.parameter)) for part in self.slices if role in (None, part.role)]
        return torch.stack(sums).sum(0) if sums else torch.zeros(self.units)


@dataclass(frozen=True)
class SearchedGroup:
    """A group as samplers see it: which cuts of it may be proposed."""

    name: str
    units: int
    step: int
    """Units go in multiples of so many."""
    fewest: int
    most: int
    """Bounds of the units that go; equal where there is nothing to choose."""
    parameter: str | None
    """Optuna's name of its ratio; None where there is nothing to choose."""
    low: float
    high: float
    """Bounds of the ratio."""


@dataclass(frozen=True)
class Sensitivity:
    """How much the model's predictions change when one group alone loses units, without recovery.

    All three have one entry per cut, of shape (K,).
    """

    cut_units: tuple[int, ...]
    """Units that go, ascending, none of them 0."""
    divergence: tuple[float, ...]
    """Mean divergence of the outputs from the dense model's, as the task measures it."""
    agreement: tuple[float, ...]
    """Mean share of what the dense model says that is still said, as the task counts it."""


@dataclass(frozen=True)
class Costs:
    """Exact size of a (pruned) model."""

    params: int
    """Number of parameters (buffers not counted)."""
    macs: int
    """Multiply-accumulates of convolutions, linear layers and matrix products for one sample."""
    bytes: int
    """Bytes of parameters and buffers together."""
    nonzero: int
    """Parameters less those that a mask sets to zero."""


@dataclass(frozen=True)
class LayerCosts:
    """Exact size of one layer of a pruned network."""

    kind: str
    """Class of its module: ``Linear``."""
    shapes: Mapping[str, tuple[int, ...]]
    """Shapes of its own parameters and buffers, by their names in the layer."""
    costs: Costs


@dataclass(frozen=True)
class Artifact:
    """What an exporter wrote."""

    path: Path
    """The file or folder to open."""
    description: str = ""
    """What it is and how to open it, in a line."""


@dataclass(frozen=True)
class Candidate:
    """What one trial tries: a ratio per group."""

    ratios: Mapping[str, float]
    """Achieved ratio per group: the fraction of its units that goes, already rounded to whole units."""
    cut_units: Mapping[str, int]
    """Number of units that go, per group."""
