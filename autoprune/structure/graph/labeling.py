"""What a run of the graph on labels finds."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from autoprune.plugin import Role
from autoprune.structure.graph.ties import Ties

_ROLES: tuple[Role, ...] = ("output", "input", "vector")


@dataclass(frozen=True)
class AtomRange:
    """The atoms of one dimension of one parameter or buffer: ``first + index``."""

    tensor: str
    dim: int
    first: int
    size: int
    virtual: bool = False
    """Whether the tensor is made by a node of that name, of entries that it can make fewer of."""


@dataclass(frozen=True)
class Product:
    """Multiply-accumulates of one operator: ``factor`` × the number of kept labels of each vector."""

    factor: int
    vectors: tuple[Tensor, ...]
    module: str = ""
    """Whose code computes it."""
    layer: str = ""
    """Whose weight it multiplies with; the module where it is no weight."""


@dataclass(frozen=True)
class Size:
    """A size that the code of a module names: how many labels a dimension of units has there."""

    module: str
    labels: Tensor


@dataclass(frozen=True)
class Average:
    """A reduction over units: it runs over those that are left."""

    module: str
    """Whose code calls it."""
    operator: str
    """Its name: ``mean``."""
    call: int
    """Which of the module's calls of that operator it is, from 0 in the order of the graph."""
    dim: int
    """The dimension of its input that the units lie along."""
    labels: Tensor
    """Labels along that dimension, of shape (size,)."""


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
    carried: dict[str, Tensor] = field(default_factory=dict)
    """Of some of them the labels that go on; another way is better if they stay."""
    sizes: list[Size] = field(default_factory=list)
    """Of what is reshaped, expanded, split or sliced."""
    kinds: dict[str, list[Tensor]] = field(default_factory=dict)
    """Granularity to labels of units that are of that kind, where the operator tells: ``head``, ``hidden unit``."""
    outputs: dict[str, Tensor] = field(default_factory=dict)
    """Layer to the labels of what it makes, in the order of its outputs."""
    averages: list[Average] = field(default_factory=list)
    """Reductions over units."""
    unknown: dict[str, list[str]] = field(default_factory=dict)
    """Operators without a rule that touched units, with the modules that call them."""
    atoms: int = 1

    def tensor(self, atoms: Tensor) -> str:
        """Name of the parameter or buffer that those atoms, or the last of them, belong to; empty if they are none."""
        largest = int(atoms.max()) if atoms.numel() else 0
        if not largest:
            return ""
        span = self.ranges[bisect_right(self.ranges, largest, key=lambda span: span.first) - 1]
        return "" if span.virtual else span.tensor

    def stuck(self) -> list[str]:
        """Nodes whose labels that go on all stay, though others could go on. Nothing may be found any more."""
        stays = self._stays if self.carried else None
        return [node for node, labels in self.carried.items() if stays is not None and bool(stays[labels].all())]

    def free(self) -> int:
        """Outputs of layers that nothing keeps. Nothing may be found any more."""
        outputs = torch.cat([*self.roles["output"], torch.zeros(0, dtype=torch.int64)])
        return int((~self._stays[torch.unique(outputs)]).sum())

    @cached_property
    def _stays(self) -> Tensor:
        """Whether each label stays, bool of shape (atoms,)."""
        pinned = torch.zeros(self.atoms, dtype=torch.bool)
        pinned[0] = True
        for pin in self.ties.pins:
            pinned[self.roots[pin.atoms]] = True
        return pinned[self.roots]

    @cached_property
    def roots(self) -> Tensor:
        """Smallest label that each label is tied to, of shape (atoms,). Nothing may be found any more."""
        return self.ties.components(self.atoms)
