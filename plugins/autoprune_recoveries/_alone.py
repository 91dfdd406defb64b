"""A cut of one group alone, repaired by what is known of the dense network: no pass of the cut one is needed.

Only the layers that read the group are fitted. Their inputs are the dense ones less what goes, so that sums of products
over the dense network's run serve every group, every scorer and every ratio.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autoprune.toolkit.layers import Product, design, put, repairable, support_matrix, weight_matrix
from autoprune.toolkit.least_squares import Moments, ridge
from autoprune_recoveries._products import Call, Watch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.plugin import Group, PruneContext
    from autoprune_recoveries._reference import Layer, Reference

_BYTES = 2**29
"""What all sums of products may take; layers that read most are left out first."""


@dataclass(frozen=True)
class Alone:
    """Sums of products of every layer's inputs and outputs in the dense network's run."""

    moments: Mapping[str, Moments]
    biased: frozenset[str]
    """Layers behind which a constant has its place: in a bias, or in a batch norm."""
    network: nn.Module = field(repr=False)
    """The dense one."""

    @classmethod
    def of(cls, ctx: PruneContext, reference: Reference) -> Alone:
        """Of the dense network, at the positions that repaired layers are fitted at."""
        import torch

        modules = repairable(ctx.dense)
        readers = {part.parameter for group in ctx.groups for part in group.slices if part.role == "input"}
        readers |= {group.masked for group in ctx.groups if group.masked}
        wanted = [
            name
            for name, layer in reference.layers.items()
            if f"{name}.weight" in readers
            and name in modules
            and layer.outputs.shape[1] == Product.of(modules[name]).outputs  # code may multiply by some rows alone
        ]
        wanted.sort(key=lambda name: _bytes(modules[name]))
        taken, room = set(), _BYTES
        for name in wanted:
            room -= _bytes(modules[name])
            if room >= 0:
                taken.add(name)
        sums = _Sums(ctx.dense, {name: reference.layers[name] for name in taken})
        with torch.no_grad(), sums:
            reference.inputs.feed(ctx.predictor(ctx.dense))
        biased = {n for n in sums.moments if modules[n].bias is not None or reference.layers[n].way.norm}
        return cls(sums.moments, frozenset(biased), ctx.dense)

    def fit(self, network: nn.Module, group: Group, kept: Tensor, *, damping: float) -> bool:
        """Fit the layers that read a group to the dense outputs that stay.

        Args:
            network: Cut of that group alone; modules that the cut left whole may be the dense network's own.
            group: Which.
            kept: Its units that stay; of weights and kernels a bool for every unit.
            damping: Pull towards the cut weights.

        Returns:
            Whether there was a layer to fit.
        """
        import torch
        from torch import nn

        modules, dense = repairable(network), dict(self.network.named_modules())  # in an exported graph they are bare
        found = False
        with torch.no_grad():
            for name in self._readers(group):
                module: Any = modules.get(name)
                if module is None:
                    continue
                near = weight_matrix(module)
                stays = _stays(dense[name], f"{name}.weight", group, kept)
                moments = _part(self.moments[name], support_matrix(dense[name], stays), near)
                if moments is None:
                    continue
                support = support_matrix(module, module.weight != 0) if group.masked else None
                weight = ridge(moments, near, damping=damping, centre=name in self.biased, support=support)
                module.weight = nn.Parameter(torch.empty_like(module.weight), requires_grad=False)
                put(module, weight)
                if name in self.biased:  # thrown away afterwards: a norm behind it may be the dense network's own
                    module.bias = nn.Parameter(moments.bias(weight).flatten().to(module.weight.dtype))
                found = True
        return found

    def _readers(self, group: Group) -> list[str]:
        weights = {part.parameter for part in group.slices if part.role == "input"} or {group.masked}
        return [name for name in self.moments if f"{name}.weight" in weights]


class _Sums(Watch):
    """Adds up products of what layers read and what they are known to put out."""

    def __init__(self, network: nn.Module, layers: Mapping[str, Layer]) -> None:
        super().__init__(network)
        self._layers = layers
        self.moments: dict[str, Moments] = {}

    def before(self, call: Call) -> None:
        layer = self._layers.get(call.layer)
        if layer is not None and not call.first and call.layer not in self.moments:
            x = design(call.product, call.inputs, layer.index).float()
            targets = layer.outputs.float().reshape(len(layer.index), len(x), -1).transpose(0, 1)
            self.moments[call.layer] = Moments.of(x, targets)


def _bytes(module: Any) -> int:
    groups, outputs, features = weight_matrix(module).shape
    return 8 * groups * features * (features + outputs)


def _stays(module: Any, parameter: str, group: Group, kept: Tensor) -> Tensor:
    """Which entries of a layer's weight are left by a cut of a group."""
    import torch

    stays = torch.ones_like(module.weight, dtype=torch.bool)
    if group.masked:
        return stays
    gone = torch.ones(group.units, dtype=torch.bool)
    gone[kept.cpu()] = False
    for part in group.slices:
        if part.parameter == parameter:
            stays.index_fill_(part.dim, part.index[gone.to(part.index.device)].flatten().to(stays.device), value=False)
    return stays


def _part(moments: Moments, stays: Tensor, near: Tensor) -> Moments | None:
    """The sums of what is left; None where that is no block of them, as with convolutions that lose whole groups.

    Args:
        moments: Of the dense layer.
        stays: Entries of its weight that are left, bool (g, O, F).
        near: The weights of the cut layer, (g', O', F').
    """
    if len(stays) != len(near):
        return None
    columns, rows = stays.any(1), stays.any(2)
    groups, outputs, features = near.shape
    if (columns.sum(1) != features).any() or (rows.sum(1) != outputs).any():
        return None
    f, o = columns.nonzero()[:, 1].reshape(groups, -1), rows.nonzero()[:, 1].reshape(groups, -1)
    by_rows = moments.gram.gather(1, f[:, :, None].expand(-1, -1, moments.gram.shape[2]))
    cross = moments.cross.gather(1, f[:, :, None].expand(-1, -1, moments.cross.shape[2]))
    return Moments(
        moments.count,
        moments.inputs.gather(1, f),
        moments.targets.gather(1, o),
        by_rows.gather(2, f[:, None, :].expand(-1, features, -1)),
        cross.gather(2, o[:, None, :].expand(-1, features, -1)),
    )
