"""What a run of the graph on labels finds."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from autoprune.plugin import Role
from autoprune.structure.ties import Ties

_ROLES: tuple[Role, ...] = ("output", "input", "vector")


@dataclass(frozen=True)
class AtomRange:
    """The atoms of one dimension of one parameter or buffer: ``first + index``."""

    tensor: str
    dim: int
    first: int
    size: int


@dataclass(frozen=True)
class Product:
    """Multiply-accumulates of one operator: ``factor`` × the number of kept labels of each vector."""

    factor: int
    vectors: tuple[Tensor, ...]


@dataclass(frozen=True)
class Size:
    """A size that the code of a module names: how many labels a dimension of units has there."""

    module: str
    labels: Tensor


@dataclass
class Labeling:
    """What the run found."""

    ranges: list[AtomRange] = field(default_factory=list)
    ties: Ties = field(default_factory=Ties)
    roles: dict[Role, list[Tensor]] = field(default_factory=lambda: {role: [] for role in _ROLES})
    """Atoms by what they do in a layer, in the order of the graph."""
    products: list[Product] = field(default_factory=list)
    whole_groups: set[str] = field(default_factory=set)
    """Modules (grouped convolutions, group norms) that lose whole groups."""
    splits: dict[str, int] = field(default_factory=dict)
    """Nodes that spread one dimension of units over several, with the number of ways to cut the result."""
    sizes: list[Size] = field(default_factory=list)
    """Of what is reshaped, expanded, split or sliced."""
    kinds: dict[str, list[Tensor]] = field(default_factory=dict)
    """Granularity to labels of units that are of that kind, where the operator tells: ``head``, ``hidden unit``."""
    unknown: dict[str, list[str]] = field(default_factory=dict)
    """Operators without a rule that touched units, with the modules that call them."""
    atoms: int = 1
