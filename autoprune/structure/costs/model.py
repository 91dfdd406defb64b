"""Exact parameters, multiply-accumulates and bytes of a candidate, by arithmetic alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoprune.plugin import Costs, Group, LayerCosts
from autoprune.structure.graph.labeling import Labeling
from autoprune.structure.groups.masks import zeroed


@dataclass(frozen=True)
class Extent:
    """A size that shrinks by so many entries for every unit that a group loses."""

    size: int
    per_unit: Mapping[str, int]

    def kept(self, cut_units: Mapping[str, int]) -> int:
        """What is left of it."""
        return self.size - sum(cut_units.get(group, 0) * entries for group, entries in self.per_unit.items())


@dataclass(frozen=True)
class Stored:
    """A parameter or buffer."""

    names: tuple[str, ...]
    extents: tuple[Extent, ...]
    element_bytes: int
    trained: bool
    mask: Group | None
    """Whose entries it is that become zero."""

    def zeros(self, sizes: Sequence[int], cut_units: Mapping[str, int]) -> int:
        """Entries that a mask sets to zero, of those sizes."""
        if self.mask is None:
            return 0
        whole = math.prod(extent.size for extent in self.extents)
        return zeroed(self.mask, sizes, cut_units.get(self.mask.name, 0)) * (whole // self.mask.units)


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates of one operator."""

    factor: int
    extents: tuple[Extent, ...]
    module: str
    """Whose code computes it."""
    layer: str
    """Whose weight it multiplies with; the module where it is no weight."""


@dataclass(frozen=True)
class CostModel:
    """Sizes of everything that costs, as functions of the units that each group loses."""

    stored: tuple[Stored, ...]
    work: tuple[Work, ...]
    batch: int
    kinds: Mapping[str, str]
    """Module that owns parameters or buffers to the name of its class."""

    def __call__(self, cut_units: Mapping[str, int], bypassed: Collection[str] = ()) -> Costs:
        """Costs after every group lost so many units, and blocks were left out."""
        gone = tuple(f"{name}." for name in bypassed)
        params = total = zeros = 0
        for tensor in self.stored:
            if all(name.startswith(gone) for name in tensor.names):
                continue
            sizes = [extent.kept(cut_units) for extent in tensor.extents]
            entries = math.prod(sizes)
            params += entries if tensor.trained else 0
            total += entries * tensor.element_bytes
            zeros += tensor.zeros(sizes, cut_units)
        macs = sum(
            work.factor * math.prod(e.kept(cut_units) for e in work.extents)
            for work in self.work
            if not f"{work.module}.".startswith(gone)
        )
        return Costs(params=params, macs=macs // self.batch, bytes=total, nonzero=params - zeros)

    def layers(self, cut_units: Mapping[str, int], bypassed: Collection[str] = ()) -> dict[str, LayerCosts]:
        """The same, of each module that owns parameters or buffers.

        A tensor of several counts for the first of them; multiply-accumulates without a weight for the module whose
        code computes them, if it owns any tensor.
        """
        gone = tuple(f"{name}." for name in bypassed)
        shapes: dict[str, dict[str, tuple[int, ...]]] = {
            name: {} for name in self.kinds if not f"{name}.".startswith(gone)
        }
        sums = {name: [0, 0, 0, 0] for name in shapes}
        for tensor in self.stored:
            sizes = tuple(extent.kept(cut_units) for extent in tensor.extents)
            named = (name.rpartition(".") for name in tensor.names)
            owners = [(owner, local) for owner, _, local in named if owner in shapes]
            for owner, local in owners:
                shapes[owner][local] = sizes
            if owners:
                entries, zeros = math.prod(sizes), tensor.zeros(sizes, cut_units)
                params = entries if tensor.trained else 0
                for place, more in enumerate((params, 0, entries * tensor.element_bytes, params - zeros)):
                    sums[owners[0][0]][place] += more
        for work in self.work:
            if work.layer in sums:
                sums[work.layer][1] += work.factor * math.prod(e.kept(cut_units) for e in work.extents)
        return {
            name: LayerCosts(
                self.kinds[name],
                shapes[name],
                Costs(params=params, macs=macs // self.batch, bytes=total, nonzero=nonzero),
            )
            for name, (params, macs, total, nonzero) in sums.items()
        }

    def zeroed(self, mask: Group, cut_units: Mapping[str, int], bypassed: Collection[str] = ()) -> int:
        """Units of a mask group that become zero, among those that other cuts leave."""
        gone = tuple(f"{name}." for name in bypassed)
        tensor = next(tensor for tensor in self.stored if mask.masked in tensor.names)
        if all(name.startswith(gone) for name in tensor.names):
            return 0
        return zeroed(mask, [extent.kept(cut_units) for extent in tensor.extents], cut_units.get(mask.name, 0))


def cost_model(
    network: nn.Module,
    groups: Sequence[Group],
    found: Labeling,
    unit_of_atom: Tensor,
    batch: int,
    only: Collection[str] | None = None,
) -> CostModel:
    """Build the arithmetic once per structure.

    Args:
        network: The dense network.
        groups: What can be cut.
        found: Its labelled graph.
        unit_of_atom: Atom to the number of its unit, over all sliced groups in order; -1 where it has none.
        batch: Samples in the example.
        only: Names of the parameters and buffers that count; all if None.
    """
    per_tensor: dict[tuple[str, int], dict[str, int]] = {}
    sliced = [number for number, group in enumerate(groups) if group.slices]
    for group in groups:
        for part in group.slices:
            per_tensor.setdefault((part.parameter, part.dim), {})[group.name] = part.index.shape[1]
    numbers = [torch.full((groups[number].units,), number) for number in sliced]
    owner = torch.cat([*numbers, torch.tensor([-1])])[unit_of_atom]
    masks = {group.masked: group for group in groups if group.masked}
    named: dict[int, list[str]] = {}
    tensors: dict[int, Tensor] = {}
    both = (network.named_parameters(remove_duplicate=False), network.named_buffers(remove_duplicate=False))
    for name, tensor in itertools.chain(*both):
        named.setdefault(id(tensor), []).append(name)
        tensors[id(tensor)] = tensor
    stored = tuple(
        Stored(
            tuple(names),
            tuple(
                Extent(size, next((per_tensor[name, dim] for name in names if (name, dim) in per_tensor), {}))
                for dim, size in enumerate(tensors[key].shape)
            ),
            tensors[key].element_size(),
            isinstance(tensors[key], nn.Parameter),
            next((masks[name] for name in names if name in masks), None),
        )
        for key, names in named.items()
        if only is None or any(name in only for name in names)
    )
    first: dict[nn.Module, str] = {}  # of the names of a module
    named_modules = list(network.named_modules(remove_duplicate=False))
    same = {name: first.setdefault(module, name) for name, module in named_modules}
    work = []
    for product in found.products:
        vectors = []
        for labels in product.vectors:
            owners, counts = torch.unique(owner[labels], return_counts=True)
            per_unit = {
                groups[o].name: c // groups[o].units
                for o, c in zip(owners.tolist(), counts.tolist(), strict=True)
                if o >= 0
            }
            vectors.append(Extent(len(labels), per_unit))
        work.append(Work(product.factor, tuple(vectors), product.module, same.get(product.layer, "")))
    owners = {name.rpartition(".")[0] for tensor in stored for name in tensor.names}
    kinds = {name: type(module).__name__ for module, name in first.items() if name in owners}
    return CostModel(stored, tuple(work), batch, kinds)
