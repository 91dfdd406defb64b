"""What the units of all groups do on samples, in one pass.

Shapes use: N samples, U units of a group, F features of a layer's input or output.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.plugin import Batch, Group, Slice

Place = Literal["made", "read"]


@dataclass(frozen=True)
class Activations:
    """Of one group's units, over all samples and positions, all layers of the group together; float32, on the CPU."""

    mean: Tensor
    """(U,)."""
    square: Tensor
    """Mean of the squares, (U,)."""
    zeros: Tensor
    """Fraction that is exactly 0, (U,)."""
    samples: Tensor | None
    """Mean over the positions of each sample, (N, U), in the order of the batches; None where a layer's first dimension
    is not the samples'."""


def activations(
    model: nn.Module, network: nn.Module, groups: Iterable[Group], batches: Iterable[Batch], *, at: Place
) -> dict[str, Activations]:
    """Summaries of what units do, for all groups in one pass without gradients.

    Example:
        >>> batches = ctx.data.train.batches(128, samples=512, device=ctx.device, generator=ctx.generator())
        >>> found = activations(ctx.model, ctx.network, ctx.groups, batches, at="read")
        >>> variance = found["conv1"].square - found["conv1"].mean.square()

    Args:
        model: Takes input units; in ``eval()``.
        network: The bare network inside it, whose parameters the groups speak of.
        groups: Of that network.
        batches: Inputs and targets, on the model's device.
        at: ``made``: what comes out of the layers that make a unit (convolutions, linear layers, embeddings), before
            any norm. ``read``: what goes into the layers that read it, behind norms and non-linearities, where many
            values are zero.

    Returns:
        Per group. Left out are groups that have no such layer: blocks, weights and kernels, hidden units of recurrent
        layers where they are made, and whatever the network's code computes without calling the layer.
    """
    import torch

    watched = {group.name: (group.units, tuple(_places(network, group, at))) for group in groups}
    layers = {place.module for _, places in watched.values() for place in places}
    sums = {name: _Sums() for name in watched}
    with torch.no_grad():
        for inputs, _ in batches:
            with _seen(layers, at) as seen:
                inputs.feed(model)
            for name, (units, places) in watched.items():
                calls = [(place.index, call) for place in places for call in seen[place.module]]
                sums[name].add(calls, samples=len(inputs), units=units)
    return {name: found.summary() for name, found in sums.items() if found.entries}


@dataclass(frozen=True)
class _Place:
    """Where a group's units are in what a layer takes or gives."""

    module: nn.Module
    index: Tensor
    """Features of each unit, int64 of shape (U, K)."""


@dataclass(frozen=True)
class _Call:
    """What a layer took or gave once, summed over its P positions; float64, on the CPU."""

    sums: Tensor
    """(N, F)."""
    squares: Tensor
    """Over the samples, too, (F,)."""
    zeros: Tensor
    """Their number, (F,)."""
    positions: int

    @classmethod
    def of(cls, tensor: Tensor, dim: int) -> _Call:
        """Of a tensor (N, …) whose features are in that dimension."""
        # In double, because a mean of squares less a squared mean is a variance.
        features = tensor.detach().movedim(dim, -1).double()
        features = features.reshape(len(features), -1, features.shape[-1])
        squares, zeros = features.square().sum((0, 1)), (features == 0).sum((0, 1))
        return cls(features.sum(1).cpu(), squares.cpu(), zeros.cpu(), features.shape[1])


@dataclass
class _Sums:
    entries: int = 0
    """Values per unit so far."""
    total: Any = 0
    squares: Any = 0
    zeros: Any = 0
    samples: list[Tensor | None] = field(default_factory=list)

    def add(self, calls: Sequence[tuple[Tensor, _Call]], *, samples: int, units: int) -> None:
        """One batch: the units' features, (U, K), and what they were, in each call of the group's layers."""
        import torch

        each, entries = torch.zeros(samples, units, dtype=torch.float64), 0
        for index, call in calls:
            sums, count = call.sums[:, index].sum(-1), call.positions * index.shape[1]
            self.entries += count * len(sums)
            self.total = self.total + sums.sum(0)
            self.squares = self.squares + call.squares[index].sum(-1)
            self.zeros = self.zeros + call.zeros[index].sum(-1)
            if len(sums) == samples:
                each, entries = each + sums, entries + count
        whole = entries and all(len(call.sums) == samples for _, call in calls)
        self.samples.append(each / entries if whole else None)

    def summary(self) -> Activations:
        import torch

        known = [each for each in self.samples if each is not None]
        return Activations(
            mean=(self.total / self.entries).float(),
            square=(self.squares / self.entries).float(),
            zeros=(self.zeros / self.entries).float(),
            samples=torch.cat(known).float() if len(known) == len(self.samples) else None,
        )


@contextmanager
def _seen(layers: Iterable[nn.Module], at: Place) -> Iterator[Mapping[nn.Module, list[_Call]]]:
    """What each layer takes or gives, call by call. It is summed at once: code may change a tensor in place."""
    seen: dict[nn.Module, list[_Call]] = {layer: [] for layer in layers}

    def keep(layer: nn.Module, tensor: Tensor) -> None:
        seen[layer].append(_Call.of(tensor, _dims(layer, at)[1]))

    if at == "made":
        hooks = [layer.register_forward_hook(lambda layer, _, output: keep(layer, output)) for layer in seen]
    else:
        hooks = [
            layer.register_forward_pre_hook(
                lambda layer, args, kwargs: keep(layer, (*args, *kwargs.values())[0]), with_kwargs=True
            )
            for layer in seen
        ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _places(network: nn.Module, group: Group, at: Place) -> Iterator[_Place]:
    """Where the group's units are made, or read, as far as it can be watched."""
    role = "output" if at == "made" else "input"
    for part in group.slices:
        if part.role != role:
            continue
        weight = network.get_parameter(part.parameter)
        # By identity, because a tied weight has one name and several layers.
        for module in (m for m in network.modules() if getattr(m, "weight", None) is weight):
            if _dims(module, at)[0] == part.dim:
                yield _Place(module, _in_all_groups(part, module, weight.shape[part.dim]))


def _dims(module: nn.Module, at: Place) -> tuple[int | None, int]:
    """The dimension of a layer's weight that is its features, and that of what it takes or gives, from the end.

    None for the first where a layer is of another kind.
    """
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    if isinstance(module, nn.Linear):
        return (0 if at == "made" else 1), -1
    if isinstance(module, nn.Embedding) and at == "made":
        return 1, -1
    if isinstance(module, _ConvNd):
        # Channels are in front of the positions, of which the weight has as many dimensions.
        return (0 if (at == "made") != module.transposed else 1), 1 - module.weight.dim()
    return None, -1


def _in_all_groups(part: Slice, module: nn.Module, size: int) -> Tensor:
    """The features of each unit, (U, K).

    Of a convolution in groups, the weight's second dimension stands for the same place in each of them.
    """
    import torch

    groups: Any = getattr(module, "groups", 1) if part.dim == 1 else 1
    return torch.cat([part.index.cpu() + size * number for number in range(groups)], dim=1)
