"""What must be cut together: an equivalence over labels.

A label is an integer. 0 is a constant: what is tied to it stays. Every other label is an atom: one index of one
dimension of one parameter or buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

CONSTANT = 0


@dataclass(frozen=True)
class Pin:
    """Atoms that stay, and why."""

    atoms: Tensor
    reason: str


@dataclass
class Ties:
    """Pairs of labels that are cut together, gathered while the graph runs."""

    pairs: list[Tensor] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    """What tied each of the pairs."""
    pins: list[Pin] = field(default_factory=list)
    where: str = ""
    """What is being run, for the reasons of what gets tied to a constant."""

    def tie(self, a: Tensor, b: Tensor) -> None:
        """Tie two label tensors elementwise; they broadcast."""
        shape = torch.broadcast_shapes(a.shape, b.shape)  # type: ignore[no-untyped-call]
        a, b = a.expand(shape), b.expand(shape)
        pairs = torch.unique(torch.stack([a.reshape(-1), b.reshape(-1)], dim=1), dim=0)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        fixed = (pairs == CONSTANT).any(dim=1)
        if fixed.any():
            self.pin(pairs[fixed], f"tied to a constant or an input by {self.where}")
        if not fixed.all():
            self.pairs.append(pairs[~fixed])
            self.places.append(self.where)

    def pin(self, labels: Tensor, reason: str) -> None:
        """Let those labels stay."""
        atoms = torch.unique(labels)
        atoms = atoms[atoms != CONSTANT]
        if len(atoms):
            self.pins.append(Pin(atoms, reason))

    def components(self, labels: int) -> Tensor:
        """Smallest label that each label is tied to, of shape (labels,)."""
        return self._components(labels, self.pairs)

    def binding(self, atoms: Tensor, labels: int) -> str | None:
        """What alone ties some atoms together, so that without it they would be several units; None if nothing does.

        Args:
            atoms: Which.
            labels: How many labels there are.
        """
        for place in dict.fromkeys(self.places):
            rest = [pairs for pairs, where in zip(self.pairs, self.places, strict=True) if where != place]
            if len(torch.unique(self._components(labels, rest)[atoms])) > 1:
                return place
        return None

    @staticmethod
    def _components(labels: int, some: Sequence[Tensor]) -> Tensor:
        pairs = torch.cat([*some, torch.zeros(0, 2, dtype=torch.int64)])
        root = torch.arange(labels)
        # Hook every root to the smallest neighbour's, then shorten the paths, until nothing moves.
        while True:
            left, right = root[pairs[:, 0]], root[pairs[:, 1]]
            low = torch.minimum(left, right)
            new = root.scatter_reduce(0, left, low, "amin").scatter_reduce(0, right, low, "amin")
            while not torch.equal(new, shorter := new[new]):
                new = shorter
            if torch.equal(new, root):
                return root
            root = new
