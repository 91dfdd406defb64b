"""The layers that read groups, and what they read on samples.

Shapes use: g groups of a layer (1 unless it is a convolution in groups), F features that an output of a group reads, O
outputs of a group, U units, K features of a unit in each group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from autoprune.toolkit.layers import design, positions, repairable, support_matrix, weight_matrix
from autoprune.toolkit.least_squares import Moments
from autoprune_scorers._elimination import Layer, eliminate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.plugin import Group, ScoreContext, Slice

_BATCH = 32
"""Samples that run at a time."""
_BYTES = 2**30
"""What second moments may take at a time; as much again while units are taken out."""
_CONSTANT = 1e-6
"""Variance, relative to the mean square, of outputs that are constant but for rounding."""

Readers = Mapping[str, "Tensor"]
"""By the name of a weight the features of each unit of a group, int64 of shape (g, U, K)."""


def errors(ctx: ScoreContext, *, samples: int, rows: int, damping: float) -> dict[str, Tensor | str]:
    """What the readers of each group lose, (U,) as `eliminate` tells it, or why that is not known.

    One pass over the samples serves all groups, unless second moments would take too much memory together.

    Args:
        ctx: The scorer's.
        samples: Of the train split.
        rows: Positions of a layer's outputs, about.
        damping: Relative to the mean variance of a layer's inputs.
    """
    layers = {f"{name}.weight".removeprefix("."): layer for name, layer in repairable(ctx.network).items()}
    readers = {group.name: _readers(group, layers) for group in ctx.groups}
    found: dict[str, Tensor | str] = {}
    for some in _together(readers, {name: _bytes(layer) for name, layer in layers.items()}):
        watched = {name: layers[name] for group in some for name in readers[group]}
        moments = _moments(ctx, watched, samples, rows)
        known = {name: _known(layers[name], moments.pop(name), damping) for name in list(moments)}
        for group in some:
            found[group] = _error(group, readers[group], known)
    return {group: found.get(group, _unread(group, own)) for group, own in readers.items()}


def _unread(group: str, readers: Readers) -> str:
    if readers:
        return f"to rank group {group!r} takes more than {2 * _BYTES >> 20} MiB of memory, so much do its readers read"
    return f"nothing that reads group {group!r} is a convolution or linear layer with a weight of its own"


def _error(group: str, readers: Readers, known: Mapping[str, Layer | None]) -> Tensor | str:
    import torch

    if not known.keys() & readers.keys():
        return f"what reads group {group!r} is not called as a module that takes one tensor: {', '.join(readers)}"
    telling = [(layer, readers[name]) for name, layer in known.items() if name in readers and layer is not None]
    if telling:
        with suppress(torch.linalg.LinAlgError):  # type: ignore[attr-defined]
            return eliminate(telling)
    return f"what reads group {group!r} puts out constants, or the damping is too small for its inputs"


def _readers(group: Group, layers: Mapping[str, nn.Module]) -> Readers:
    found = {}
    for part in group.slices:
        if part.role == "input" and part.parameter in layers:
            columns = _columns(part, layers[part.parameter])
            if columns is not None:
                found[part.parameter] = columns
    return found


def _columns(part: Slice, layer: Any) -> Tensor | None:
    """The features of each unit, int64 of shape (g, U, K).

    None where they are not in all groups of a convolution: then its outputs go with the units, and nothing is read.
    """
    import torch

    weight = layer.weight
    units = torch.arange(len(part.index), device=weight.device)
    owner = torch.full((weight.shape[part.dim],), -1, device=weight.device)
    owner[part.index.to(weight.device)] = units.unsqueeze(1)
    along = [-1 if dim == part.dim else 1 for dim in range(weight.dim())]
    # As `design` counts features; all outputs of a group read the same.
    owners = support_matrix(layer, owner.view(along).expand(weight.shape))[:, 0]
    columns = owners.argsort(dim=1, stable=True)[:, int((owners[0] < 0).sum()) :]
    if columns.shape[1] % len(units):
        return None
    columns = columns.view(len(columns), len(units), -1)
    found = owners.gather(1, columns.flatten(1)).view_as(columns)
    return columns if bool((found == units.unsqueeze(1)).all()) else None


def _bytes(layer: Any) -> int:
    """Of the second moments of its inputs."""
    groups, _, features = support_matrix(layer, layer.weight).shape
    return 8 * groups * features**2


def _together(readers: Mapping[str, Readers], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Groups in turn, as many at a time as the memory allows; without those that have none or too much."""
    some: list[str] = []
    held: set[str] = set()
    for group, own in readers.items():
        if not own or sum(sizes[name] for name in own) > _BYTES:
            continue
        if sum(sizes[name] for name in held.union(own)) > _BYTES:
            yield some
            some, held = [], set()
        some.append(group)
        held.update(own)
    if some:
        yield some


def _moments(ctx: ScoreContext, layers: Mapping[str, nn.Module], samples: int, rows: int) -> dict[str, Moments]:
    """Of the inputs of those layers that are called, in one pass."""
    import torch

    found: dict[str, Moments] = {}
    generator = ctx.generator()
    share = math.ceil(rows * _BATCH / max(_BATCH, min(samples, len(ctx.data.train))))

    def see(name: str, layer: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
        index = torch.randperm(positions(layer, outputs), generator=generator)[:share].to(inputs.device)
        x = design(layer, inputs, index).float()
        seen = Moments.of(x, x[..., :0])  # what it puts out follows from its weights
        found[name] = found[name] + seen if name in found else seen

    with torch.no_grad(), _seen(layers, see):
        for inputs, _ in ctx.data.train.batches(_BATCH, samples=samples, device=ctx.device, generator=ctx.generator()):
            inputs.feed(ctx.model)
    return found


@contextmanager
def _seen(layers: Mapping[str, nn.Module], see: Callable[[str, nn.Module, Tensor, Tensor], None]) -> Iterator[None]:
    """Show what each layer takes and gives, when it does."""

    def hook(name: str) -> Callable[..., None]:
        def seen(layer: nn.Module, args: tuple[Tensor, ...], kwargs: Mapping[str, Tensor], outputs: Tensor) -> None:
            inputs, *more = *args, *kwargs.values()
            if not more:  # a transposed convolution may be told its output's size, which `design` does not know
                see(name, layer, inputs, outputs)

        return seen

    hooks = [layer.register_forward_hook(hook(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        yield
    finally:
        for each in hooks:
            each.remove()


def _known(layer: Any, moments: Moments, damping: float) -> Layer | None:
    """None where its outputs are constant, or its inputs' moments singular in spite of the damping."""
    import torch
    from torch import nn

    weight = weight_matrix(layer)
    square = moments.gram / moments.count
    # A bias, or the norm behind a convolution without one, takes up what is constant.
    constant = layer.bias is None and not isinstance(layer, nn.modules.conv._ConvNd)
    gram = square if constant else moments.centred[0]
    variance = (weight @ gram * weight).sum()
    if variance <= _CONSTANT * (weight @ square * weight).sum():
        return None
    diagonal = gram.diagonal(dim1=1, dim2=2)
    diagonal += damping * diagonal.mean(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    factor, failed = torch.linalg.cholesky_ex(gram)
    return None if failed.any() else Layer(torch.cholesky_inverse(factor), weight, variance)
