"""A model's structure: what can be cut, cutting it, and what a cut costs."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor, nn

from autoprune.plugin import Costs, Group, Inputs, LayerCosts
from autoprune.structure.costs.layers import LayerTable
from autoprune.structure.costs.model import CostModel
from autoprune.structure.costs.table import CostTable, cost_table
from autoprune.structure.groups.channels import Uncut
from autoprune.structure.groups.numbering import Kept, Numbering
from autoprune.structure.groups.remaining import remaining, spread
from autoprune.structure.groups.selection import selected
from autoprune.structure.surgery.folding import folded
from autoprune.structure.surgery.free_sizes import Sizes
from autoprune.structure.surgery.graph_network import GraphNetwork, hollowed
from autoprune.structure.surgery.masked import Masked
from autoprune.structure.surgery.plan import Plan
from autoprune.structure.surgery.planner import Planner
from autoprune.structure.surgery.slicing import apply
from autoprune.structure.surgery.template import Template

_NOTHING: Kept = {}


@dataclass(frozen=True)
class Structure:
    """What `discover` finds. Units are offered only after a cut of them was seen to equal the masked original."""

    groups: tuple[Group, ...]
    uncut: tuple[Uncut, ...]
    """What stays whole, and why."""
    layers: tuple[str, ...]
    """Names of all layers with parameters."""
    example: Inputs = field(repr=False)
    """What it was found with."""
    _numbering: Numbering = field(repr=False)
    _planner: Planner = field(repr=False)
    _costs: CostModel = field(repr=False)
    _averages: Mapping[tuple[str, str, int], tuple[int, Tensor]] = field(repr=False)
    """Module, operator and number of its call there to the dimension that it averages over, and the units along it."""
    _foldable: tuple[tuple[str, str], ...] = field(repr=False)
    """Layers, each with the batch norm that alone reads its output."""
    _template: Template | None = field(repr=False)
    """The exported graph, where that is the pruned model."""

    @property
    def sizes(self) -> Sizes | None:
        """Of each input what a pruned network takes; None where it runs the modules' code, which says for itself.

        A size that is None there is free; another one is refused.
        """
        return self._template.sizes if self._template else None

    @property
    def form(self) -> str:
        """``modules``, or ``graph`` where pruned networks are exported graphs."""
        return "graph" if self._template else "modules"

    def tensors(self, network: nn.Module) -> dict[str, Tensor]:
        """The parameters and buffers of a network, by all of their names, that its pruned copies have, too."""
        both = (network.named_parameters(remove_duplicate=False), network.named_buffers(remove_duplicate=False))
        named = itertools.chain(*both)
        if self._template is None:
            return dict(named)
        return {name: tensor for name, tensor in named if name in self._template.tensors}

    # Which units stay.

    def select(self, scores: Mapping[str, Tensor], cut_units: Mapping[str, int]) -> dict[str, Tensor]:
        """The units that stay: the best ones; of equal ones the first.

        Args:
            scores: Importance of each unit, (U,) per group; minus infinity for what is gone already.
            cut_units: Units that go, per group, counted from the dense network.

        Returns:
            What `plan` takes, for every group that has scores.
        """
        return selected(self._numbering, scores, cut_units)

    def bypassed(self, kept: Kept) -> dict[str, int]:
        """The blocks that are left out, to the length of the tuple that each returned."""
        return self._numbering.bypassed(kept)

    def remaining(self, kept: Kept) -> tuple[Group, ...]:
        """The groups as they are in the network that is cut so, in the order of ``groups``.

        Units are those that are left, numbered anew; slices and masked entries are places in the cut network's tensors.
        Of weights and kernels zeros count as units, too. A group of which nothing is left has no units.
        """
        return remaining(self._numbering, kept)

    def spread(self, group: str, scores: Tensor, kept: Kept) -> Tensor:
        """Scores of a group's remaining units as scores of all of its units.

        Args:
            group: Its name.
            scores: Of the units as `remaining` numbers them, (U',).
            kept: The units that stay.

        Returns:
            Of shape (U,): minus infinity for units that are gone. All 0 for what is left of a group whose layers are
            gone with their blocks.
        """
        return spread(self._numbering, self._numbering.by_name[group], scores, kept)

    def rows(self, kept: Kept, layer: str) -> Tensor:
        """Indices of a dense layer's outputs that stay, int64, ascending; none if it is in a block that is left out.

        Outputs are what the last dimension of a linear layer, an embedding or a recurrent layer counts, the channels
        of a convolution or a norm.

        Raises:
            StructureError: There is no such layer.
        """
        return self._numbering.rows(kept, layer)

    # Cutting.

    def plan(self, network: nn.Module, kept: Kept) -> Plan:
        """What a cut changes.

        Args:
            network: The dense network.
            kept: Per group the units that stay: their indices; of weights and kernels a bool for every unit. A group
                left out stays whole.

        Raises:
            StructureError: A group is unknown or would lose every unit.
        """
        return self._planner.plan(network, kept, {})

    def cut(self, network: nn.Module, kept: Kept, *, before: Kept = _NOTHING, share: bool = False) -> nn.Module:
        """A smaller copy of a network; a `GraphNetwork` where its code cannot be adjusted.

        Args:
            network: The dense network or, whatever its weights are by now, a cut of it.
            kept: See `plan`; units are numbered as in the dense network.
            before: The units that the network has, as they were kept; what ``kept`` says nothing of stays as it is.
            share: Let modules that stay as they are be the network's own, where pruned networks are no graphs.

        Raises:
            StructureError: A group is unknown or would lose every unit, or a unit is gone already.
        """
        kept = {**before, **kept}
        if self._template is None:
            return apply(network, self._planner.plan(network, kept, before), share=share)
        root = hollowed(network) if isinstance(network, GraphNetwork) else network
        small = apply(root, self._planner.plan(root, kept, before))
        stays = self._numbering.stays(kept)
        return self._template.network(small, lambda units: int(stays[units].sum()), self.bypassed(kept))

    def folded(self, network: nn.Module) -> nn.Module:
        """What predicts the same in fewer steps: batch norms are part of the layers before them.

        Args:
            network: The dense network or a cut of it, in ``eval()``.

        Returns:
            A network that shares the rest with the given one; that one itself where no batch norm can be folded.
        """
        return folded(network, self._foldable)

    def masked(self, network: nn.Module, kept: Kept) -> nn.Module:
        """The dense-sized reference that `cut` equals: every parameter entry of a cut unit is zero."""
        stays = self._numbering.stays(kept)
        averages = {place: (dim, stays[units]) for place, (dim, units) in self._averages.items()}
        return Masked(network, self.plan(network, kept), {k: a for k, a in averages.items() if not a[1].all()})

    # What a cut costs.

    def costs(self, cut_units: Mapping[str, int] | None = None, bypassed: Collection[str] = ()) -> Costs:
        """Exact costs after every group lost so many units, by arithmetic.

        Args:
            cut_units: Units that go, per group. Which blocks go, and not only how many, makes a difference:
            bypassed: Their names.
        """
        return self._costs(cut_units or {}, bypassed)

    @cached_property
    def dense_costs(self) -> Costs:
        """Those of the dense network."""
        return self.costs()

    def layer_costs(
        self, cut_units: Mapping[str, int] | None = None, bypassed: Collection[str] = ()
    ) -> dict[str, LayerCosts]:
        """The same of each module that owns parameters or buffers, by its name in the network.

        Their parameters, bytes and non-zero parameters add up to those of `costs`: a tensor of several modules counts
        for the first. Multiply-accumulates count for the layer whose weight they multiply with; products of activations
        for the module whose code computes them, if it owns tensors.
        """
        return self._costs.layers(cut_units or {}, bypassed)

    @cached_property
    def cost_table(self) -> CostTable:
        """The same arithmetic for many candidates at once, groups in the order of ``groups``."""
        return cost_table(self._costs, self.groups)

    @cached_property
    def layer_table(self) -> LayerTable:
        """The arithmetic of `layer_costs` for many candidates at once."""
        return LayerTable(self._costs, self.groups)

    def lost(self, group: Group, cut_units: Mapping[str, int], bypassed: Collection[str] = ()) -> int:
        """How many units a group loses: of weights and kernels a share of those that other cuts leave."""
        return self._costs.zeroed(group, cut_units, bypassed) if group.masked else cut_units.get(group.name, 0)
